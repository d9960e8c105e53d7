"""Activation functions. Where MIL has no operator of its own, the formula stands in the docstring."""

from __future__ import annotations

from typing import cast

import numpy as np

from ....export.artifact import Array
from .call import Call, Held, Lower, Var, dtype_of, is_float, like, rank_of, size
from .elementwise import word


def elu(c: Call) -> Held:
    """``x`` above zero, ``alpha * (exp(x) - 1)`` below."""
    x = c.var(0)
    return c.mb.elu(x=x, alpha=like(x, c.float("alpha", 1.0)))


def celu(c: Call) -> Held:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    x, alpha = c.var(0), c.float("alpha", 1.0)
    inner = c.mb.elu(x=c.mb.mul(x=x, y=like(x, 1 / alpha)), alpha=like(x, 1))
    return c.mb.mul(x=inner, y=like(x, alpha))


def selu(c: Call) -> Held:
    """``gamma * elu(x, alpha)``."""
    x = c.var(0)
    inner = c.mb.elu(x=x, alpha=like(x, c.float("alpha", 1.6732631921768188)))
    return c.mb.mul(x=inner, y=like(x, c.float("gamma", 1.0507010221481323)))


def leaky_relu(c: Call) -> Held:
    """``x`` above zero, ``alpha * x`` below."""
    x = c.var(0)
    return c.mb.leaky_relu(x=x, alpha=like(x, c.float("alpha", 0.01)))


def prelu(c: Call) -> Held:
    """``max(0, x) + slope * min(0, x)`` with a slope that broadcasts."""
    x = c.var(0)
    below = c.mb.minimum(x=x, y=like(x, 0))
    return c.mb.add(x=c.mb.relu(x=x), y=c.mb.mul(x=below, y=c.var(1)))


def thresholded_relu(c: Call) -> Held:
    """``x`` above ``alpha``, else 0; at ``alpha`` itself MIL's own operator keeps x."""
    x = c.var(0)
    above = c.mb.greater(x=x, y=like(x, c.float("alpha", 1.0)))
    return c.mb.select(cond=above, a=x, b=like(x, 0))


def hard_sigmoid(c: Call) -> Held:
    """``min(max(alpha * x + beta, 0), 1)``."""
    x = c.var(0)
    return c.mb.sigmoid_hard(x=x, alpha=like(x, c.float("alpha", 0.2)), beta=like(x, c.float("beta", 0.5)))


def hard_swish(c: Call) -> Held:
    """``x * min(max(x / 6 + 1 / 2, 0), 1)``."""
    x = c.var(0)
    return c.mb.mul(x=x, y=c.mb.sigmoid_hard(x=x, alpha=like(x, 1 / 6), beta=like(x, 0.5)))


def gelu(c: Call) -> Held:
    """``x * Phi(x)``, exact or by tanh."""
    tanh = c.text("approximate", "none") == "tanh"
    return c.mb.gelu(x=c.var(0), mode="TANH_APPROXIMATION" if tanh else "EXACT")


def swish(c: Call) -> Held:
    """``x * sigmoid(alpha * x)``."""
    x, alpha = c.var(0), c.float("alpha", 1.0)
    inner = x if alpha == 1 else c.mb.mul(x=x, y=like(x, alpha))
    return c.mb.mul(x=x, y=c.mb.sigmoid(x=inner))


def mish(c: Call) -> Held:
    """``x * tanh(log(1 + exp(x)))``."""
    x = c.var(0)
    return c.mb.mul(x=x, y=c.mb.tanh(x=c.mb.softplus(x=x)))


def clip(c: Call) -> Held:
    """``min(max(x, low), high)``; either end may be left out."""
    x = c.var(0)
    low, high = (_end(c, 1, "min", x), _end(c, 2, "max", x))
    ends = _known_ends(low, high)
    if is_float(x) and ends is not None and ends[0] < ends[1]:
        if ends == (0.0, 6.0):
            return c.mb.relu6(x=x)
        return c.mb.clip(x=x, alpha=low, beta=high)
    if low is not None:
        x = c.mb.maximum(x=x, y=low)
    return x if high is None else c.mb.minimum(x=x, y=high)


def _known_ends(low: Held, high: Held) -> tuple[float, float] | None:
    """Give both ends where both are constants."""
    if not (isinstance(low, np.ndarray) and isinstance(high, np.ndarray)):
        return None
    return float(cast("Array", low)), float(cast("Array", high))


def _end(c: Call, index: int, name: str, x: Var) -> Array | Var | None:
    """Give one end: an attribute before opset 11, an input since."""
    if c.has(name):
        return like(x, c.float(name))
    array = c.array(index)
    return array.reshape(()).astype(dtype_of(x)) if array is not None else c.held(index)


def softmax(c: Call) -> Held:
    """``exp(x) / sum(exp(x))`` along an axis; before opset 13 over all axes from it on."""
    x, axis = c.var(0), _axis(c)
    if c.scope.opset >= 13 or axis in (-1, rank_of(x) - 1):
        return c.mb.softmax(x=x, axis=axis)
    axes = list(range(axis % rank_of(x), rank_of(x)))
    lifted = c.mb.exp(x=c.mb.sub(x=x, y=c.mb.reduce_max(x=x, axes=axes, keep_dims=True)))
    return c.mb.real_div(x=lifted, y=c.mb.reduce_sum(x=lifted, axes=axes, keep_dims=True))


def log_softmax(c: Call) -> Held:
    """``x - max - log(sum(exp(x - max)))``."""
    x, axis = c.var(0), _axis(c)
    axes = [axis] if c.scope.opset >= 13 else list(range(axis % rank_of(x), rank_of(x)))
    shifted = c.mb.sub(x=x, y=c.mb.reduce_max(x=x, axes=axes, keep_dims=True))
    total = c.mb.reduce_sum(x=c.mb.exp(x=shifted), axes=axes, keep_dims=True)
    return c.mb.sub(x=shifted, y=c.mb.log(x=total, epsilon=like(x, 0)))


def _axis(c: Call) -> int:
    return c.int("axis", -1 if c.scope.opset >= 13 else 1)


def hardmax(c: Call) -> Held:
    """One at the first largest value along an axis, zero elsewhere."""
    x = c.var(0)
    axis = _axis(c) % rank_of(x)
    place = c.mb.reduce_argmax(x=x, axis=axis, keep_dims=True)
    steps = np.arange(size(x, axis, "the input"), dtype=np.int32).reshape(
        [-1] + [1] * (rank_of(x) - 1 - axis)
    )
    return c.mb.cast(x=c.mb.equal(x=place, y=steps), dtype=word(dtype_of(x)))


def shrink(c: Call) -> Held:
    """``x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, 0 between."""
    x, limit, bias = c.var(0), c.float("lambd", 0.5), c.float("bias", 0.0)
    low = c.mb.less(x=x, y=like(x, -limit))
    high = c.mb.greater(x=x, y=like(x, limit))
    upper = c.mb.select(cond=high, a=c.mb.sub(x=x, y=like(x, bias)), b=like(x, 0))
    return c.mb.select(cond=low, a=c.mb.add(x=x, y=like(x, bias)), b=upper)


ACTIVATIONS: dict[str, Lower] = {
    "Elu": elu,
    "Celu": celu,
    "Selu": selu,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "ThresholdedRelu": thresholded_relu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Gelu": gelu,
    "Swish": swish,
    "Mish": mish,
    "Clip": clip,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "Hardmax": hardmax,
    "Shrink": shrink,
}
"""By ONNX operator."""
