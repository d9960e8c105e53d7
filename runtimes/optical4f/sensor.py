"""The camera: from light to electrons, noise, saturation and counts, in the form of EMVA 1288.

    n   = QE I t (1 + prnu) + dark + dsnu         electrons in the mean
    var = n + read^2                              shot and read noise
    y   = ADC(min(n + noise + offset, full well)) in steps of full well / (2^b - 1)

so a ramp of light shows a variance of read^2 + n + LSB^2/12, of slope 1 per electron (photon transfer). The
normal law stands for Poisson's unless asked otherwise; noise and rounding pass gradients (reparametrised,
straight-through).

Axes: any leading axes, h w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .conditions import Conditions
from .noise import standard_normal
from .rounding import through

_APART = 0x5EED0000
"""Keeps the seeds of patterns from those of noise: equal seeds would draw equal numbers."""


@dataclass(frozen=True)
class Exposed:
    """How much light a camera gets, and what fills it."""

    per_electron: Tensor | None
    """Electrons per unit of intensity; ``None`` when electrons are not counted. Broadcasts against frames."""
    ceiling: Tensor
    """Intensity at which the converter saturates. Broadcasts against frames."""


@dataclass(frozen=True)
class Pattern:
    """What differs from pixel to pixel and stays from frame to frame."""

    response: Tensor | None
    """Relative response, mean 1. Broadcasts against frames."""
    dark: Tensor | None
    """Dark signal beyond its mean in electrons. Broadcasts against frames."""


def pattern(conditions: Conditions, shape: tuple[int, ...], dtype: torch.dtype) -> Pattern:
    """Draw the fixed pattern of a camera.

    Args:
        conditions: Its non-uniformities and their seed.
        shape: Pixels, with 1 where frames share them.
        dtype: Real type of the answer.

    Returns:
        The pattern, the same for the same seed and shape.
    """
    generator = torch.Generator().manual_seed((_APART + conditions.pattern_seed) % 2**32)
    response = dark = None
    if conditions.prnu:
        response = 1 + conditions.prnu * torch.randn(shape, generator=generator, dtype=dtype)
    if conditions.dsnu:
        dark = conditions.dsnu * torch.randn(shape, generator=generator, dtype=dtype)
    return Pattern(response, dark)


def expose(conditions: Conditions, peak: Tensor, mean: Tensor | None) -> Exposed:
    """Set light and converter for the frames of a pass.

    Args:
        conditions: Electrons, what they count, and the full well.
        peak: Brightest intensity that is read. Broadcasts against the frames.
        mean: Mean intensity that is read. Likewise; needed for the exposure ``mean`` only.

    Returns:
        Electrons per unit of intensity, and the intensity that saturates.
    """
    electrons = conditions.full_scale
    if electrons is None:
        return Exposed(None, peak)
    unit = torch.ones_like(peak) if conditions.exposure == "source" else peak
    if mean is not None:
        unit = torch.where(mean > 0, mean, unit)
    per_electron = electrons / unit
    ceiling = peak if conditions.full_well is None else conditions.full_well / per_electron
    return Exposed(per_electron, ceiling)


def read(
    intensity: Tensor,
    exposed: Exposed,
    fixed: Pattern,
    conditions: Conditions,
    generator: torch.Generator | None,
) -> Tensor:
    """Read frames.

    Args:
        intensity: Light that falls on the pixels. Shape (..., h, w).
        exposed: Light and range of the camera.
        fixed: Its fixed pattern.
        conditions: Its noise and bits.
        generator: Source of the noise.

    Returns:
        Intensities as the camera reports them, in the units that came. Shape (..., h, w).
    """
    if exposed.per_electron is None:
        return _convert(_patterned(intensity, fixed), exposed.ceiling, conditions.adc_bits)
    electrons = _patterned(intensity * exposed.per_electron, fixed)
    electrons = electrons + conditions.dark if conditions.dark else electrons
    electrons = _noise(electrons, conditions, generator)
    black, unit = conditions.dark, 1 / exposed.per_electron
    if conditions.full_well is None and conditions.adc_bits is None:
        return (electrons - black if black else electrons) * unit
    lifted = electrons + conditions.offset if conditions.offset else electrons
    black += conditions.offset
    counted = _convert(lifted, exposed.ceiling * exposed.per_electron, conditions.adc_bits, unit)
    return counted - black * unit if black else counted


def snr(electrons: Tensor, conditions: Conditions) -> Tensor:
    """Give the signal to noise ratio of one read, n/sqrt(n + read^2 + LSB^2/12 + (prnu n)^2) (EMVA 1288).

    Args:
        electrons: Mean signal, of any shape.
        conditions: Read noise, bits, full well and PRNU.

    Returns:
        The ratio, of the same shape.
    """
    step = 0.0
    if conditions.adc_bits is not None and conditions.full_well is not None:
        step = conditions.full_well / (2**conditions.adc_bits - 1)
    constant = conditions.read_noise**2 + conditions.dark + step**2 / 12
    return electrons / (electrons + constant + (conditions.prnu * electrons) ** 2).sqrt()


def _patterned(values: Tensor, fixed: Pattern) -> Tensor:
    if fixed.response is not None:
        values = values * fixed.response
    return values if fixed.dark is None else values + fixed.dark


def _noise(electrons: Tensor, conditions: Conditions, generator: torch.Generator | None) -> Tensor:
    if conditions.shot_noise and conditions.exact_poisson:
        drawn = torch.poisson(electrons.detach().clamp(min=0), generator=generator)
        electrons = through(drawn, electrons)
    gauss = conditions.shot_noise and not conditions.exact_poisson
    if not gauss:
        spread = conditions.read_noise
        return electrons + spread * standard_normal(electrons, generator) if spread else electrons
    # A thousandth of an electron keeps the slope of the root finite in the dark.
    spread = electrons.clamp(min=0).add_(conditions.read_noise**2 + 1e-6).sqrt_()
    noise = standard_normal(electrons, generator)
    if electrons.requires_grad:
        return torch.addcmul(electrons, spread, noise)
    return noise.mul_(spread).add_(electrons)


def _convert(values: Tensor, ceiling: Tensor, bits: int | None, unit: Tensor | float = 1.0) -> Tensor:
    """Saturate at zero and the ceiling, round to ceiling / (2**bits - 1), and give multiples of a unit."""
    if bits is None:
        return torch.minimum(values.clamp(min=0), ceiling) * unit
    most = 2**bits - 1
    counts = values * (most / ceiling)
    if not counts.requires_grad:
        return counts.clamp_(0, most).round_().mul_(ceiling / most * unit)
    counts = counts.clamp(0, most)
    return through(torch.round(counts), counts) * (ceiling / most * unit)
