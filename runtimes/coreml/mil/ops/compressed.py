"""Compressed weights: operators on constants, computed once when first read.

Axis letters of a palette: K the axes of the indices, P entries, V values of one entry. A scale, offset or
palette that is smaller than the data along an axis holds for equal blocks of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..signature import Ints
from .quantize import dequantize
from .shape import within


def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """Give the same in another float type."""
    return source_val


def constexpr_affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    """Give ``scale * (q - zero point)`` along an axis."""
    return dequantize(quantized_data, scale, zero_point, axis)


def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Give ``scale * (data - offset)``, each in blocks."""
    values = data.float()
    if offset is not None:
        values = values - _blocks(offset, data.shape).float()
    return values * _blocks(scale, data.shape)


def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Ints = (), vector_axis: int | None = None
) -> Tensor:
    """Look values up.

    Before iOS18 from packed indices and a list, with the shape; then from indices (K...) and palettes
    (K..., P, V).
    """
    if shape:
        bits = int(math.log2(lut.numel()))
        return lut[_unpacked(indices, bits, math.prod(within(shape)))].reshape(shape)
    palettes = _blocks(lut, (*indices.shape, *lut.shape[-2:]))
    wanted = indices.long()[..., None, None].expand(*indices.shape, 1, lut.shape[-1])
    vectors = palettes.gather(-2, wanted).squeeze(-2)
    if lut.shape[-1] == 1 or vector_axis is None:
        return vectors.squeeze(-1)
    axis = vector_axis % indices.ndim
    return vectors.movedim(-1, axis + 1).flatten(axis, axis + 1)


def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints = ()) -> Tensor:
    """Put values where a mask has ones: a packed one (iOS16), or one of the shape of the result."""
    if shape:
        mask = _unpacked(mask, 1, math.prod(within(shape))).reshape(shape)
    chosen = mask != 0
    if int(chosen.sum()) != nonzero_data.numel():
        message = f"expected {int(chosen.sum())} values for the mask, got {nonzero_data.numel()}"
        raise ValueError(message)
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[chosen] = nonzero_data
    return dense


def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """Look up the values under a mask; gives the mask of the result and its values."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, (), vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scale the values under a mask; gives the mask and the values."""
    data = constexpr_sparse_to_dense(nonzero_data, data_mask)
    return data_mask, constexpr_blockwise_shift_scale(data, scale, offset)[data_mask != 0]


def _blocks(values: Tensor, shape: Ints) -> Tensor:
    """Repeat values along every axis to the sizes wanted."""
    for axis, (size, wanted) in enumerate(zip(values.shape, shape, strict=True)):
        if size == 0 or wanted % size:
            message = f"expected a divisor of {wanted} along axis {axis}, got {size}"
            raise ValueError(message)
        if 1 < size < wanted:
            values = values.repeat_interleave(wanted // size, axis)
    return values.expand(shape)


def _unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """Read numbers of a few bits from bytes, lowest bits first."""
    if packed.numel() != -(-bits * count // 8):
        message = (
            f"expected {-(-bits * count // 8)} bytes for {count} values of {bits} bits, got {packed.numel()}"
        )
        raise ValueError(message)
    single = (packed.long().unsqueeze(-1) >> torch.arange(8)) & 1
    return (single.reshape(-1)[: bits * count].reshape(count, bits) << torch.arange(bits)).sum(-1)
