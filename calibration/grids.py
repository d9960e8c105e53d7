"""The arithmetic of 8-bit numbers: real = scale * (integer - zero_point), zero always exact.

Axis letters: c the channels along ``axis``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..export.artifact import Array
from .scheme import QdqStyle

SMALLEST = 1e-30
"""Smallest usable scale: its products with another scale must not vanish in float32."""


@dataclass(frozen=True)
class Grid:
    """The representable values of one activation."""

    scale: float
    zero_point: int
    dtype: str
    """``"uint8"`` or ``"int8"``."""


def activation_grid(low: float, high: float, style: QdqStyle, *, symmetric: bool) -> Grid:
    """Choose the grid that covers ``low`` to ``high`` and zero.

    Args:
        low: Lowest value worth representing, finite.
        high: Highest value worth representing, finite.
        style: Integer types that the engine takes.
        symmetric: True puts zero in the middle, unless nothing is negative and the style allows for that.

    Returns:
        The grid.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric and style.unsigned_positive:
        if low == 0.0:
            return Grid(_down(high / 255.0), 0, "uint8")
        return Grid(_down(max(-low, high) / 127.0), 0, "int8")
    offset = 0 if style.activations == "uint8" else -128
    if symmetric:
        return Grid(_down(max(-low, high) / 127.0), offset + 128, style.activations)
    scale = _down((high - low) / 255.0)
    return Grid(scale, offset + round(min(255.0, -low / scale)), style.activations)


def _down(scale: float) -> float:
    """Round to float32, and one step down if 255 levels would reach past the range.

    An engine drops a Clip before a QuantizeLinear only if no level lies outside the Clip.
    """
    rounded = np.float32(scale)
    if float(rounded) > scale:
        rounded = np.nextafter(rounded, np.float32(0.0))
    return float(rounded)


def usable(low: float, high: float, style: QdqStyle) -> str:
    """Say why a range cannot become a grid, or ``""``."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"its values are not finite ({low} to {high})"
    if max(high, -low, 0.0) / 255.0 < SMALLEST:
        return f"its values are all zero, or too small to scale ({low} to {high})"
    return ""


def weight_scales(weight: Array, axis: int | None, *, top: int) -> Array:
    """Choose symmetric scales for weights.

    Args:
        weight: (..., c, ...) float32.
        axis: The channel axis; None gives one scale for all.
        top: Largest integer used, 127 or 64.

    Returns:
        (c,) float32, or () without an axis; all positive. A channel of zeros takes the scale of the whole
        tensor, so that a bias on top of it keeps its precision.
    """
    whole = float(np.max(np.abs(weight), initial=0.0))
    whole = max(whole, SMALLEST * top) if whole else float(top)
    if axis is None:
        return np.array(whole / top, np.float32)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peaks = np.abs(weight).max(axis=others, initial=0.0)
    # Far below the largest channel nothing is gained, and scale products would lose their meaning.
    return (np.where(peaks > whole * 1e-7, peaks, whole) / top).astype(np.float32)


def widen_for_bias(scales: Array, bias: Array, input_scale: float) -> Array:
    """Enlarge weight scales whose bias would not fit into int32.

    Args:
        scales: (c,) or () float32.
        bias: (c,) float32.
        input_scale: Scale of the activation that the weights multiply.

    Returns:
        Scales of the same shape, large enough for every bias.
    """
    needed = np.abs(bias.astype(np.float64)) / (input_scale * (2.0**31 - 256))
    return np.maximum(scales, needed if scales.ndim else needed.max(initial=0.0)).astype(np.float32)


def to_integers(values: Array, scales: Array, axis: int | None, *, top: int, dtype: str) -> Array:
    """Round values onto symmetric grids.

    Args:
        values: (..., c, ...) float32.
        scales: (c,) or ().
        axis: The channel axis, or None.
        top: Largest magnitude.
        dtype: Integer type of the result.

    Returns:
        Integers of the shape of ``values``.
    """
    if axis is not None:
        scales = scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return np.clip(np.rint(values / scales.astype(np.float64)), -top, top).astype(dtype)
