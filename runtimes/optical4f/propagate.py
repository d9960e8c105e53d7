r"""Sampled wave optics: free space, thin lenses, and a 4f system out of them to check the plane model.

Free space over z multiplies the angular spectrum (Goodman, Introduction to Fourier Optics, 3.10) [K]

    G(u, v) = exp(2 pi i z sqrt(1/lambda^2 - u^2 - v^2))              exact
            = exp(2 pi i z/lambda) exp(-i pi lambda z (u^2 + v^2))    Fresnel

and a thin lens multiplies the field by exp(-i pi (x^2 + y^2)/(lambda f)). Phases reach 1e5 radians and
more, so they are computed in float64 whatever the field has; transfer functions are kept.

Axes: N rows and columns of a grid, which lies symmetrically around the axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_zeros

from .fourier import fft2, frequencies, ifft2
from .sampling import Layout, refuse, traps

_KEPT = 16
"""Transfer functions and lenses that are kept."""


@dataclass(frozen=True)
class Grid:
    """Where a field is sampled."""

    points: int
    """N."""
    spacing: float
    """Distance of two points in metres."""
    wavelength: float
    """Of the light, in metres."""

    @property
    def width(self) -> float:
        """Of the whole grid, in metres."""
        return self.points * self.spacing

    def positions(self) -> Tensor:
        """Distances of the points from the axis in metres. Shape (N), float64."""
        return (torch.arange(self.points, dtype=torch.float64) - (self.points - 1) / 2) * self.spacing

    def squared_radius(self) -> Tensor:
        """Squared distances from the axis in square metres. Shape (N, N), float64."""
        squares = self.positions().square()
        return squares[:, None] + squares


def sampled(layout: Layout) -> Grid:
    """Give the grid of a layout, as wide as its lenses.

    Args:
        layout: The geometry.

    Returns:
        The grid.

    Raises:
        UsageError: If the layout falls into a trap of ``sampling``.
    """
    refuse(traps(layout))
    return Grid(round(layout.diameter / layout.spacing), layout.spacing, layout.wavelength)


@lru_cache(maxsize=_KEPT)
def free_space(grid: Grid, distance: float, *, fresnel: bool = False) -> Tensor:
    """Give the transfer function of free space.

    Args:
        grid: Of the field.
        distance: z in metres; negative goes back.
        fresnel: Whether to take the paraxial form.

    Returns:
        Shape (N, N), complex128, in the order of the FFT.
    """
    down, right = frequencies((grid.points, grid.points), torch.float64)
    squares = (down.square() + right.square()) / grid.spacing**2
    if fresnel:
        turns = distance / grid.wavelength - grid.wavelength * distance * squares / 2
        return torch.polar(torch.ones_like(turns), 2 * pi * turns)
    axial = 1 / grid.wavelength**2 - squares
    carried = torch.polar(torch.ones_like(axial), 2 * pi * distance * axial.clamp(min=0).sqrt())
    # Evanescent waves fade with the distance, forwards and backwards alike.
    return carried * torch.exp(-2 * pi * abs(distance) * (-axial).clamp(min=0).sqrt())


@lru_cache(maxsize=_KEPT)
def lens(grid: Grid, focal_length: float) -> Tensor:
    """Give what a thin lens multiplies a field by: round, as wide as the grid.

    Args:
        grid: Of the field.
        focal_length: f in metres.

    Returns:
        Shape (N, N), complex128.
    """
    squares = grid.squared_radius()
    clear = (squares <= (grid.width / 2) ** 2).to(squares.dtype)
    return torch.polar(clear, -pi / (grid.wavelength * focal_length) * squares)


def propagate(field: Tensor, grid: Grid, distance: float, *, pad: int = 0, fresnel: bool = False) -> Tensor:
    """Carry a field through free space.

    Args:
        field: Complex. Shape (..., N, N).
        grid: Its points.
        distance: z in metres.
        pad: Dark points on each side while it propagates, which keep it from wrapping around.
        fresnel: Whether to take the paraxial form.

    Returns:
        The field there, of the same shape and type.
    """
    wide = Grid(grid.points + 2 * pad, grid.spacing, grid.wavelength)
    transfer = free_space(wide, distance, fresnel=fresnel).to(field.dtype)
    carried = ifft2(fft2(pad_zeros(field, (pad, pad, pad, pad))) * transfer)
    return carried[..., pad : pad + grid.points, pad : pad + grid.points]


def through_4f(
    field: Tensor,
    mask: Tensor,
    grid: Grid,
    focal_lengths: tuple[float, float],
    *,
    defocus: float = 0.0,
    pad: int | None = None,
    fresnel: bool = False,
) -> Tensor:
    """Carry a field through lens, mask and lens.

    Args:
        field: In the front focal plane of the first lens, complex. Shape (..., N, N).
        mask: Transmission in the common focal plane. Shape (N, N).
        grid: Points of all planes; ``sampled`` gives one without traps.
        focal_lengths: f1 and f2 in metres.
        defocus: How far behind the focal plane the camera stands, in metres.
        pad: Dark points on each side; ``None`` for half the grid, beyond which nothing changes [M].
        fresnel: Whether to take the paraxial form.

    Returns:
        The field at the camera, upside down. Shape (..., N, N).
    """
    first, second = focal_lengths
    room = grid.points // 2 if pad is None else pad

    def carried(light: Tensor, distance: float) -> Tensor:
        return propagate(light, grid, distance, pad=room, fresnel=fresnel)

    light = carried(field, first) * lens(grid, first).to(field.dtype)
    light = carried(light, first) * mask
    light = carried(light, second) * lens(grid, second).to(field.dtype)
    return carried(light, second + defocus)
