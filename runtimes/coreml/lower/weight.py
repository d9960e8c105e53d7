"""A weight stored in integers: what DequantizeLinear makes of a constant.

``w = (q - zero) * scale`` with one scale, one per channel along ``axis``, or one per ``block`` along it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....export.artifact import Array
from ..sdk import builder


@dataclass(frozen=True)
class Weight:
    """Integers and how to read them."""

    data: Array
    """int8, uint8, int4 or uint4."""
    scale: Array
    """Without dimensions, or with one; with those of ``data`` when in blocks."""
    zero: Array
    """Of the shape of ``scale``, in the type of ``data``."""
    axis: int | None
    """None where one scale serves all."""
    block: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.data.shape

    def array(self) -> Array:
        """Give the weight in the type of its scale."""
        scale, zero = (self._spread(part) for part in (self.scale, self.zero.astype(np.int32)))
        return ((self.data.astype(np.int32) - zero) * scale).astype(self.scale.dtype)

    def transposed(self, order: tuple[int, ...]) -> Weight:
        """Give the weight with its axes in another order; integers stay integers."""
        axis = None if self.axis is None else order.index(self.axis)
        data = np.ascontiguousarray(self.data.transpose(order))
        if not self.block:
            return replace(self, data=data, axis=axis)
        scale, zero = self.scale.transpose(order), self.zero.transpose(order)
        return replace(self, data=data, scale=scale, zero=zero, axis=axis)

    def var(self) -> Any:
        """Put the weight into the program, compressed."""
        if self.block or self.data.dtype.name in ("int4", "uint4"):
            return self._blockwise()
        return builder().constexpr_affine_dequantize(
            quantized_data=self.data, zero_point=self.zero, scale=self.scale, axis=np.int32(self.axis or 0)
        )

    def _blockwise(self) -> Any:
        """Use the form of iOS 18: scale and offset with as many dimensions as the data."""
        shape = [1] * self.data.ndim
        if self.axis is not None and not self.block:
            shape[self.axis] = -1
        scale, zero = (part if self.block else part.reshape(shape) for part in (self.scale, self.zero))
        mixed = bool(np.any(zero.astype(np.int32)))
        return builder().constexpr_blockwise_shift_scale(
            data=self.data, scale=scale, offset=zero if mixed else None
        )

    def _spread(self, part: Array) -> Array:
        """Bring scales or zero points to a shape that broadcasts against the data."""
        if self.block:
            assert self.axis is not None
            return np.repeat(part, self.block, self.axis)
        if self.axis is None:
            return part
        return part.reshape([-1 if axis == self.axis else 1 for axis in range(self.data.ndim)])
