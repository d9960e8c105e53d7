"""Resizing and cutting of pictures, in the last two axes.

A mode says where the sample i of an axis lies, with n values in and m out:

    STRICT_ALIGN_CORNERS  i (n - 1) / (m - 1)
    ALIGN_CORNERS         the same, but the middle when m = 1
    DEFAULT               i n / m
    OFFSET_CORNERS        (i + 1/2) max(1, n - 1) / m
    UNALIGN_CORNERS       (i + 1/2) n / m - 1/2

held between 0 and n - 1. ``resize`` to nearest values takes the nearest one, of two the lower; the older
operators for it take the value below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..signature import Ints
from .shape import within


def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    """Repeat values by two factors."""
    high, wide = (
        math.floor(s * f)
        for s, f in zip(x.shape[-2:], (scale_factor_height, scale_factor_width), strict=True)
    )
    return resize_nearest_neighbor(x, high, wide)


def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Interpolate by two factors; the true factors are those of the sizes."""
    high, wide = (
        math.floor(s * f)
        for s, f in zip(x.shape[-2:], (scale_factor_height, scale_factor_width), strict=True)
    )
    if half_pixel_centers is None:
        half_pixel_centers = not align_corners
    if align_corners and half_pixel_centers:
        message = "expected aligned corners or half pixel centres, got both"
        raise ValueError(message)
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel_centers else "DEFAULT"
    return resize_bilinear(x, high, wide, mode)


def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Take the values below the places of the default mode."""
    return _below(_below(x, -2, target_size_height), -1, target_size_width)


def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """Interpolate between values."""
    return _linear(_linear(x, -2, target_size_height, sampling_mode), -1, target_size_width, sampling_mode)


def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Resize the last axes to the last of the given sizes, of which 0 keeps the size."""
    change = _linear if interpolation_mode == "LINEAR" else _nearest
    for axis in range(-resized_dims, 0):
        x = change(x, axis, shape[axis] or x.shape[axis], sampling_mode)
    return x


def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """Cut the edges: before and after of each axis."""
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def positions(mode: str, size: int, target: int) -> Tensor:
    """Give where the samples of one axis lie, in float64.

    Raises:
        ValueError: If the mode is not known.
    """
    return spread(mode, float(size), target).clamp(0, size - 1)


def spread(mode: str, size: float, target: int) -> Tensor:
    """Give where samples lie, before they are held inside."""
    steps = torch.arange(target, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and target == 1:
        return torch.full((1,), (size - 1) / 2, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        return steps * ((size - 1) / max(target - 1, 1))
    if mode == "DEFAULT":
        return steps * size / target
    if mode == "OFFSET_CORNERS":
        return (steps + 0.5) * max(1.0, size - 1) / target
    if mode == "UNALIGN_CORNERS":
        return (steps + 0.5) * size / target - 0.5
    message = f"expected a sampling mode of MIL, got {mode!r}"
    raise ValueError(message)


def _allow(x: Tensor, axis: int, target: int) -> None:
    """Refuse a size that no network needs, before anything is allocated."""
    shape = list(x.shape)
    shape[axis] = target
    within(tuple(shape))


def _linear(x: Tensor, axis: int, target: int, mode: str) -> Tensor:
    _allow(x, axis, target)
    if target == x.shape[axis] and mode != "OFFSET_CORNERS":
        return x
    places = positions(mode, x.shape[axis], target)
    below = places.floor().long()
    above = (below + 1).clamp(max=x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = target
    share = (places - below).float().reshape(shape)
    low, high = x.index_select(axis, below).float(), x.index_select(axis, above).float()
    return low + share * (high - low)


def _nearest(x: Tensor, axis: int, target: int, mode: str) -> Tensor:
    _allow(x, axis, target)
    places = (positions(mode, x.shape[axis], target) - 0.5).ceil().long().clamp(min=0)
    return x.index_select(axis, places)


def _below(x: Tensor, axis: int, target: int) -> Tensor:
    _allow(x, axis, target)
    # In whole numbers: n / m in floats would fall below the exact place now and then.
    return x.index_select(axis, torch.arange(target) * x.shape[axis] // target)
