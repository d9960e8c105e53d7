"""Q/DQ with our ranges, and weights in integers."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from ....export.artifact import Array
from .call import Call, Held, Lower, Unsupported, Var, dtype_of, like, rank_of
from .folded import MOST_DIMENSIONS, Folded
from .weight import Weight

_EIGHT = ("int8", "uint8")
_WEIGHTS = (*_EIGHT, "int4", "uint4")


def quantize(c: Call) -> Held:
    """``clip(round(x / scale) + zero)`` in int8 or uint8."""
    if isinstance(held := c.held(0), Folded):
        return _of_many(c, held, quantize)
    x, scale = c.var(0), c.need(1, "the scale")
    zero = c.array(2)
    kind = "uint8" if zero is None else zero.dtype.name
    if kind not in _EIGHT:
        raise Unsupported(f"activations in {kind}")
    return c.mb.quantize(
        input=x,
        zero_point=_zero(zero, scale),
        scale=_scale(scale, dtype_of(x)),
        axis=_axis(c, scale, rank_of(x)),
        output_dtype=kind,
    )


def dequantize(c: Call) -> Held:
    """``(q - zero) * scale``: a compressed weight where q is known, an operator where a run computes it."""
    scale, zero, held = c.need(1, "the scale"), c.array(2), c.held(0)
    if isinstance(held, np.ndarray):
        return _weight(c, cast("Array", held), scale, zero)
    if isinstance(held, Folded):
        return _of_many(c, held, dequantize)
    kind = dtype_of(held).name
    if kind not in _EIGHT:
        return _wide(c, held, scale, zero)
    return c.mb.dequantize(
        input=held,
        zero_point=_zero(zero, scale),
        scale=_scale(scale, scale.dtype),
        axis=_axis(c, scale, rank_of(held)),
    )


def _of_many(c: Call, x: Folded, lower: Lower) -> Folded:
    """Lower for a tensor of too many dimensions: one scale serves its elements in any shape."""
    if c.need(1, "the scale").size != 1:
        raise Unsupported(
            f"a scale per channel of {len(x.shape)} dimensions, and Core ML takes {MOST_DIMENSIONS}"
        )
    (data, *_) = c.node.inputs
    assert data is not None
    around = c.scope.inner()
    around.values[data] = x.var
    return Folded(lower(replace(c, scope=around)), x.shape)


def _weight(c: Call, data: Array, scale: Array, zero: Array | None) -> Held:
    zeros = np.zeros(scale.shape, data.dtype) if zero is None else zero
    if data.dtype.name not in _WEIGHTS:
        whole = Weight(data, scale, zeros, _weight_axis(c, scale, data.ndim))
        return whole.array()  # a bias in int32, which Core ML wants in float
    block, axis = c.int("block_size"), _weight_axis(c, scale, data.ndim)
    if (block or data.dtype.name in ("int4", "uint4")) and c.scope.system == "iOS17":
        message = "weights in int4 or in blocks need a deployment target from iOS18 on"
        raise Unsupported(message)
    if axis is None:
        scale, zeros = scale.reshape(()), zeros.reshape(())
    return Weight(data, scale, zeros, axis, block)


def _weight_axis(c: Call, scale: Array, rank: int) -> int | None:
    if scale.size == 1 and not c.int("block_size"):
        return None
    return c.int("axis", 1) % rank


def _wide(c: Call, held: Var, scale: Array, zero: Array | None) -> Var:
    """Turn 32-bit sums back by arithmetic."""
    if scale.size != 1:
        message = "32-bit activations with a scale per channel"
        raise Unsupported(message)
    kind = "fp16" if scale.dtype == np.float16 else "fp32"
    if zero is not None and np.any(zero):
        held = c.mb.sub(x=held, y=like(held, zero.reshape(())))
    return c.mb.mul(x=c.mb.cast(x=held, dtype=kind), y=scale.reshape(()))


def _scale(scale: Array, dtype: np.dtype[np.generic]) -> Array:
    return scale.reshape(()).astype(dtype) if scale.size == 1 else scale.astype(dtype)


def _zero(zero: Array | None, scale: Array) -> Array | None:
    """Give a zero point of the shape of the scale; MIL takes none for zero at zero."""
    if zero is None or not np.any(zero):
        return None
    return zero.reshape(()) if scale.size == 1 else zero


def _axis(c: Call, scale: Array, rank: int) -> Held:
    return None if scale.size == 1 else np.int32(c.int("axis", 1) % rank)
