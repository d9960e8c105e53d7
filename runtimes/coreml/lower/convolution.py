"""Convolutions and transposed convolutions over one, two or three axes.

Axis letters: B batch, C channels in, O channels out, K kernel, G groups.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

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
from .weight import Weight
from .windows import Window, window_of


def conv(c: Call) -> Held:
    """Convolve (B, C, ...) with (O, C / G, K...)."""
    x, weight = c.var(0), c.held(1)
    window = window_of(c, x, _kernel(weight))
    if not isinstance(weight, np.ndarray | Weight) and any(d != 1 for d in window.dilations):
        message = "a dilated convolution needs constant weights"
        raise Unsupported(message)
    answer = c.mb.conv(
        x=x,
        weight=variable(weight),
        **_bias(c.held(2)),
        strides=list(window.strides),
        pad_type="custom",
        pad=window.pad,
        dilations=list(window.dilations),
        groups=c.int("group", 1),
    )
    return _with_bias(c, answer, c.held(2))


def conv_transpose(c: Call) -> Held:
    """Convolve (B, C, ...) with (C, O / G, K...) the other way; output paddings reach past the end.

    ONNX crops the whole answer by ``pads`` and then keeps ``output_padding`` elements more at the end. What
    is asked for beyond the whole answer is only bias.
    """
    x, weight = c.var(0), c.held(1)
    if not isinstance(weight, np.ndarray | Weight):
        message = "a transposed convolution needs constant weights"
        raise Unsupported(message)
    window, more = _transposed_window(c, x, _kernel(weight))
    cut = tuple(e - m for e, m in zip(window.end, more, strict=True))
    beyond = tuple(max(0, -e) for e in cut)
    bias = None if any(beyond) else c.held(2)
    answer = c.mb.conv_transpose(
        x=x,
        weight=variable(weight),
        **_bias(bias),
        pad=replace(window, end=tuple(max(0, e) for e in cut)).pad,
        pad_type="custom",
        strides=list(window.strides),
        dilations=list(window.dilations),
        groups=c.int("group", 1),
    )
    if not any(beyond):
        return _with_bias(c, answer, bias)
    ends = [0, 0, 0, 0, *(p for b in beyond for p in (0, b))]
    padded = c.mb.pad(x=answer, pad=np.array(ends, np.int32), mode="constant", constant_val=like(answer, 0))
    return padded if c.held(2) is None else c.mb.add(x=padded, y=_along_channels(c, padded, c.held(2)))


def _transposed_window(c: Call, x: Var, kernel: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
    """Give the window and the output paddings, worked out where the shape of the answer is given instead."""
    more = tuple(c.ints("output_padding") or (0,) * len(kernel))
    wanted, mode = c.ints("output_shape"), c.text("auto_pad", "NOTSET")
    if wanted is None and mode in ("NOTSET", "VALID"):
        return window_of(c, x, kernel), more
    ones = (1,) * len(kernel)
    strides, dilations = tuple(c.ints("strides") or ones), tuple(c.ints("dilations") or ones)
    sizes = [size(x, axis + 2, "the input") for axis in range(len(kernel))]
    asked = wanted or [s * stride for s, stride in zip(sizes, strides, strict=True)]
    totals = [
        stride * (s - 1) + m + (k - 1) * d + 1 - want
        for s, stride, m, k, d, want in zip(sizes, strides, more, kernel, dilations, asked, strict=True)
    ]
    if any(total < 0 for total in totals):
        message = "its answer is larger than what the weights reach"
        raise Unsupported(message)
    half = tuple(total // 2 for total in totals)
    rest = tuple(total - h for total, h in zip(totals, half, strict=True))
    begin, end = (half, rest) if mode == "SAME_UPPER" else (rest, half)
    return Window(shape_of(x)[2:], kernel, strides, dilations, begin, end), more


def _kernel(weight: Held) -> tuple[int, ...]:
    return tuple(int(s) for s in shape_of(weight)[2:])


def _bias(bias: Given) -> dict[str, Var]:
    array = known(bias)
    return {} if array is None else {"bias": array}


def _with_bias(c: Call, answer: Var, bias: Given) -> Var:
    """Add a bias that the network computes itself."""
    if bias is None or known(bias) is not None:
        return answer
    return c.mb.add(x=answer, y=_along_channels(c, answer, bias))


def _along_channels(c: Call, answer: Var, bias: Held) -> Var:
    """Bring a bias of shape (O,) to (1, O, 1...)."""
    array, shape = known(bias), [1, -1] + [1] * (rank_of(answer) - 2)
    if array is not None:
        return array.reshape(shape).astype(dtype_of(answer))
    return c.mb.reshape(x=bias, shape=np.array(shape, np.int32))
