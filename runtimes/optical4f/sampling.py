"""Geometries that sampled optics gets wrong without a word, found before anything is computed.

matched    N dx_in dx_mask = lambda f         else a mask pixel is not a frequency of the input
lens       r <= lambda f/(2 dx)               else the phase of a lens turns by more than pi per point
propagator z <= 2 x dx/lambda                 else the phase of the angular spectrum does
           (Voelz and Roggemann, Appl. Opt. 48, 6132, 2009) [K]
precision  k z eps < 0.1 rad                  else the type has no phase left
guard      kernel - 1 and aberrated image     else neighbouring tiles overlap

The lens has to catch what leaves the rim of the input for the rim of the mask, so r is half of both
widths; in a matched system that takes two points per pixel. One point, N dx^2 = lambda f, does for a lens
as wide as the input only, and gives 6 to 15 % error [M]. The Fresnel number N_F = a^2/(lambda z) says
which regime holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi

import torch

from ...errors import UsageError
from ...export.artifact import Refusal

_MATCH = 1e-3
"""Relative mismatch of mask and spectrum at which the rim is a hundredth of a kernel off."""
_EQUAL = 1e-9
"""What rounding may add to a limit."""
_PHASE = 0.1
"""Radians of phase error that are still a percent of amplitude."""


@dataclass(frozen=True)
class Layout:
    """A 4f system on grids of points."""

    wavelength: float
    """In metres."""
    focal_length: float
    """Of the first lens, in metres."""
    pixels: int
    """N of input and mask, guard bands and padding among them."""
    input_pitch: float
    """Width of an input pixel in metres."""
    mask_pitch: float
    """Width of a mask pixel in metres."""
    samples_per_pixel: int = 2
    """Grid points along an input pixel, where waves are propagated."""
    aperture: float | None = None
    """Diameter of the lenses in metres; ``None``: the widths of input and mask together."""
    padding: float = 0.5
    """Dark margin on each side of the lenses while waves propagate, in their diameters."""

    @property
    def spacing(self) -> float:
        """Of the grid, in metres."""
        return self.input_pitch / self.samples_per_pixel

    @property
    def diameter(self) -> float:
        """Of the lenses, in metres."""
        return self.aperture or self.pixels * (self.input_pitch + self.mask_pitch)


def matched_focal_length(wavelength: float, pixels: int, input_pitch: float, mask_pitch: float) -> float:
    """Give the focal length at which mask pixels are frequencies of the input, f = N dx_in dx_mask/lambda.

    Args:
        wavelength: In metres.
        pixels: N.
        input_pitch: In metres.
        mask_pitch: In metres.

    Returns:
        f in metres.
    """
    return pixels * input_pitch * mask_pitch / wavelength


def fresnel_number(radius: float, wavelength: float, distance: float) -> float:
    """Give N_F = a^2/(lambda z): far below 1 the far field, far above it the shadow.

    Args:
        radius: Of the aperture, a, in metres.
        wavelength: In metres.
        distance: z in metres.

    Returns:
        The number.
    """
    return radius**2 / (wavelength * distance)


def mismatch(layout: Layout) -> Refusal | None:
    """Say whether mask pixels miss the frequencies of the input."""
    fits = matched_focal_length(layout.wavelength, layout.pixels, layout.input_pitch, layout.mask_pitch)
    if abs(layout.focal_length / fits - 1) <= _MATCH:
        return None
    reason = (
        f"expected N dx_in dx_mask = lambda f, got f = {layout.focal_length:.4g} m; take f = {fits:.4g} m"
    )
    return Refusal("mask", reason)


def aliased_lens(layout: Layout) -> Refusal | None:
    """Say whether the phase of a lens turns too fast for the grid."""
    radius = layout.diameter / 2
    reach = layout.wavelength * layout.focal_length / (2 * layout.spacing)
    if radius <= reach * (1 + _EQUAL):
        return None
    enough = ceil(layout.samples_per_pixel * radius / reach * (1 - _EQUAL))
    reason = f"expected a lens of radius at most lambda f/(2 dx) = {reach:.4g} m, got {radius:.4g} m"
    reason += f"; take {enough} points per pixel"
    return Refusal("lens", reason)


def aliased_propagator(layout: Layout, distance: float | None = None) -> Refusal | None:
    """Say whether the angular spectrum aliases over a distance, the focal length unless given."""
    far = layout.focal_length if distance is None else abs(distance)
    half = layout.diameter * (0.5 + layout.padding)
    reach = 2 * half * layout.spacing / layout.wavelength
    if far <= reach * (1 + _EQUAL):
        return None
    reason = f"expected at most z = 2 x dx/lambda = {reach:.4g} m, got {far:.4g} m; pad the grid more"
    return Refusal("propagator", reason)


def lost_phase(layout: Layout, dtype: torch.dtype) -> Refusal | None:
    """Say whether a real type is too coarse for the phase k f."""
    error = 2 * pi * layout.focal_length / layout.wavelength * torch.finfo(dtype).eps
    if error < _PHASE:
        return None
    reason = (
        f"expected phases to within {_PHASE} rad, got {error:.2g} rad in {dtype}; compute them in float64"
    )
    return Refusal("precision", reason)


def narrow_guard(guard: int, kernel: int, spread: int = 0) -> Refusal | None:
    """Say whether tiles reach into each other.

    Args:
        guard: Dark pixels between two tiles.
        kernel: Extent of the kernel along that axis.
        spread: Extent of a point's aberrated image beyond one pixel.
    """
    needed = max(kernel - 1, spread)
    if guard >= needed:
        return None
    reason = f"expected a guard band of at least {needed} pixels, got {guard}; space the tiles further apart"
    return Refusal("guard", reason)


def traps(layout: Layout, dtype: torch.dtype = torch.float64) -> tuple[Refusal, ...]:
    """Find everything that is wrong with a layout for wave optics.

    Args:
        layout: The geometry.
        dtype: Real type that phases are computed in.

    Returns:
        One refusal per trap, none when all is well.
    """
    found = (mismatch(layout), aliased_lens(layout), aliased_propagator(layout), lost_phase(layout, dtype))
    return tuple(refusal for refusal in found if refusal is not None)


def refuse(found: Sequence[Refusal]) -> None:
    """Raise the first of some refusals.

    Raises:
        UsageError: If there is one.
    """
    if found:
        raise UsageError(f"{found[0].where}: {found[0].reason}")
