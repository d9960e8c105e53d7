"""Rounding to levels, with the gradient of no rounding (straight-through; Bengio et al. 2013, 1308.3432)."""

from __future__ import annotations

import torch
from torch import Tensor


def through(shown: Tensor, wanted: Tensor) -> Tensor:
    """Give one value forwards and the gradient of another backwards.

    Args:
        shown: The value, of any shape.
        wanted: What the gradient flows to, of the same shape.

    Returns:
        ``shown``.
    """
    return wanted + (shown - wanted).detach() if wanted.requires_grad else shown


def quantize(values: Tensor, bits: int | None) -> Tensor:
    """Round values in [0, 1] to the nearest of ``2**bits`` equidistant levels, 0 and 1 among them.

    Args:
        values: Of any shape; outside of [0, 1] they saturate.
        bits: Bits, or ``None`` for no rounding.

    Returns:
        The rounded values, of the same shape.
    """
    if bits is None:
        return values
    steps = 2**bits - 1
    return through(torch.round(values.clamp(0, 1) * steps) / steps, values)


def quantize_phase(phase: Tensor, bits: int | None) -> Tensor:
    """Round phases to the nearest of ``2**bits`` levels on the circle.

    Rounding is odd, so conjugate pairs stay conjugate and a real kernel stays real.

    Args:
        phase: In radians, of any shape.
        bits: Bits, or ``None`` for no rounding.

    Returns:
        The rounded phases in radians.
    """
    if bits is None:
        return phase
    step = 2 * torch.pi / 2**bits
    return through(torch.round(phase / step) * step, phase)
