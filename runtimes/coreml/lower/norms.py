"""Normalizations.

Axis letters: B batch, C channels, G groups.
"""

from __future__ import annotations

import math

import numpy as np

from ....export.artifact import Array
from .call import (
    Call,
    Given,
    Held,
    Unsupported,
    Var,
    dtype_of,
    known,
    like,
    rank_of,
    shape_of,
    size,
    variable,
)
from .sizes import reshape

_SMALLEST = {"float16": 6e-8, "float32": 0.0}
"""Least epsilon that a type still tells from zero."""


def layer_norm(c: Call) -> Held:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` over the axes from ``axis`` on."""
    if c.asks(1) or c.asks(2):
        message = "mean and deviation as outputs"
        raise Unsupported(message)
    x = c.var(0)
    axes = list(range(c.int("axis", -1) % rank_of(x), rank_of(x)))
    gamma, beta = c.array(1), c.array(2)
    sizes = tuple(shape_of(x)[axis] for axis in axes)
    inside = gamma is not None and gamma.shape == sizes and (c.held(2) is None or _fits(beta, sizes))
    answer = c.mb.layer_norm(
        x=x,
        axes=axes,
        gamma=gamma if inside else None,
        beta=beta if inside else None,
        epsilon=epsilon(c, x),
    )
    return answer if inside else scaled(c, answer, c.held(1), c.held(2))


def _fits(beta: Array | None, sizes: tuple[object, ...]) -> bool:
    return beta is not None and beta.shape == sizes


def rms_norm(c: Call) -> Held:
    """``x / sqrt(mean(x**2) + epsilon) * scale`` over the axes from ``axis`` on."""
    x = c.var(0)
    axes = list(range(c.int("axis", -1) % rank_of(x), rank_of(x)))
    square = c.mb.reduce_mean(x=c.mb.mul(x=x, y=x), axes=axes, keep_dims=True)
    root = c.mb.sqrt(x=c.mb.add(x=square, y=epsilon(c, x)))
    return scaled(c, c.mb.real_div(x=x, y=root), c.held(1), None)


def instance_norm(c: Call) -> Held:
    """Normalize each channel of each picture of (B, C, ...) over its positions."""
    x = c.var(0)
    axes = list(range(2, rank_of(x)))
    answer = c.mb.layer_norm(x=x, axes=axes, epsilon=epsilon(c, x))
    return scaled(c, answer, *_per_channel(c, x, c.held(1), c.held(2)))


def group_norm(c: Call) -> Held:
    """Normalize groups of channels of (B, C, ...); scales are per group until opset 20, then per channel."""
    x, groups = c.var(0), c.int("num_groups", 1)
    channels = size(x, 1, "the input")
    dims = shape_of(x)
    split = [dims[0], groups, math.prod(dims[2:]) * (channels // groups)]
    answer = c.mb.layer_norm(x=reshape(c, x, split), axes=[2], epsilon=epsilon(c, x))
    scale, bias = (_spread(c, c.held(i), channels) for i in (1, 2))
    return scaled(c, reshape(c, answer, dims, source=(x,)), *_per_channel(c, x, scale, bias))


def _spread(c: Call, held: Given, channels: int) -> Held:
    array = known(held)
    if array is None:
        message = "scales of a group normalization must be constants"
        raise Unsupported(message)
    return array if array.size == channels else np.repeat(array, channels // array.size)


def batch_norm(c: Call) -> Held:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` with the statistics of training."""
    if c.int("training_mode") or any(c.asks(i) for i in range(1, 5)):
        message = "batch normalization in training mode"
        raise Unsupported(message)
    x = c.var(0)
    scale, bias, mean, variance = (c.need(i, "every parameter") for i in range(1, 5))
    if 3 <= rank_of(x) <= 5:
        return c.mb.batch_norm(
            x=x,
            mean=mean,
            variance=variance,
            gamma=scale,
            beta=bias,
            epsilon=like(x, c.float("epsilon", 1e-5)),
        )
    wide = [part.astype(np.float64) for part in (scale, bias, mean, variance)]
    factor = wide[0] / np.sqrt(wide[3] + c.float("epsilon", 1e-5))
    return c.mb.add(x=c.mb.mul(x=x, y=like(x, factor)), y=like(x, wide[1] - wide[2] * factor))


def local_response(c: Call) -> Held:
    """``x / (bias + alpha / size * sum(x**2))**beta`` over neighbouring channels."""
    x, width = c.var(0), c.int("size")
    if width % 2 == 0:
        message = "a local response over an even number of channels"
        raise Unsupported(message)
    return c.mb.local_response_norm(
        x=x,
        size=width,
        alpha=like(x, c.float("alpha", 1e-4)),
        beta=like(x, c.float("beta", 0.75)),
        k=like(x, c.float("bias", 1.0)),
    )


def lp_norm(c: Call) -> Held:
    """Divide by the norm along an axis; what has none is all zeros, and stays."""
    x, axis, p = c.var(0), c.int("axis", -1), c.int("p", 2)
    name = "reduce_l2_norm" if p == 2 else "reduce_l1_norm"
    norm = getattr(c.mb, name)(x=x, axes=[axis], keep_dims=True)
    nothing = c.mb.equal(x=norm, y=like(x, 0))
    return c.mb.real_div(x=x, y=c.mb.select(cond=nothing, a=like(x, 1), b=norm))


def mean_variance(c: Call) -> Held:
    """``(x - mean) / deviation`` over axes; ONNX adds 1e-9 to the deviation."""
    x, axes = c.var(0), c.ints("axes") or [0, 2, 3]
    centred = c.mb.sub(x=x, y=c.mb.reduce_mean(x=x, axes=axes, keep_dims=True))
    spread = c.mb.sqrt(x=c.mb.reduce_mean(x=c.mb.mul(x=centred, y=centred), axes=axes, keep_dims=True))
    return c.mb.real_div(x=centred, y=c.mb.add(x=spread, y=like(x, 1e-9)))


def epsilon(c: Call, x: Var) -> Array:
    """Give the epsilon in the type of the input, never rounded to nothing."""
    return like(x, max(c.float("epsilon", 1e-5), _SMALLEST[dtype_of(x).name]))


def scaled(c: Call, x: Var, scale: Given, bias: Given) -> Var:
    """Multiply and add, with what broadcasts."""
    if scale is not None:
        x = c.mb.mul(x=x, y=variable(scale))
    return x if bias is None else c.mb.add(x=x, y=variable(bias))


def _per_channel(c: Call, x: Var, scale: Given, bias: Given) -> tuple[Given, Given]:
    """Bring parameters of shape (C,) to (C, 1, ...)."""
    shape = [-1] + [1] * (rank_of(x) - 2)

    def bring(held: Given) -> Given:
        array = known(held)
        if array is not None:
            return array.reshape(shape)
        return None if held is None else c.mb.reshape(x=held, shape=np.array(shape, np.int32))

    return bring(scale), bring(bias)
