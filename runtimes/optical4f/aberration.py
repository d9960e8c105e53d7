r"""What lenses and pixels do to a transfer function: defocus, Zernike aberrations, stops and pixel apertures.

The pupil is the circle inscribed in the mask, of radius rho = 1 at the Nyquist frequency 1/(2 dx). The phase
is exp(2 pi i W) with

    W = W020 rho^2 + sum_j c_j Z_j(rho, theta)

in waves, Z_j in Noll's order and norm (J. Opt. Soc. Am. 66, 207, 1976) [K], so c_j is an rms over the
pupil, and the Strehl ratio of small aberrations is exp(-(2 pi sigma)^2) (Mahajan, J. Opt. Soc. Am. 73, 860,
1983) [K]. Outside of the circle the polynomials go on, unless a stop is set.

Axes: P Q rows and columns of the mask plane, in the order of the FFT.
"""

from __future__ import annotations

from math import factorial, pi, sqrt

import torch
from torch import Tensor

from ...errors import UsageError
from .conditions import Conditions
from .fourier import frequencies

_HIGHEST = 36
"""Noll index of the last polynomial offered: radial order 7."""


def pupil(conditions: Conditions, size: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """Give the complex factor that aberrations and stop put on the light in the mask plane.

    Args:
        conditions: Which of them there are.
        size: P and Q.
        dtype: Real type to compute in.

    Returns:
        Shape (P, Q), at most 1 in absolute value; ``None`` when there is nothing.
    """
    if not conditions.aberrated and conditions.stop is None:
        return None
    rho, theta = _polar(size, dtype)
    waves = conditions.defocus * rho**2
    for index, rms in conditions.zernike:
        waves = waves + rms * zernike(index, rho, theta)
    passed = torch.ones_like(rho) if conditions.stop is None else (rho <= conditions.stop).to(dtype)
    return torch.polar(passed, 2 * pi * waves)


def pixel_sinc(fill: float, size: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """Give the transform of a square pixel, sin(pi a u)/(pi a u) along both axes.

    Args:
        fill: Width a of the pixel in pitches; 0 for a point.
        size: P and Q.
        dtype: Real type to compute in.

    Returns:
        Shape (P, Q), real; ``None`` for a point.
    """
    if fill == 0:
        return None
    down, right = frequencies(size, dtype)
    return torch.sinc(fill * down) * torch.sinc(fill * right)


def zernike(index: int, rho: Tensor, theta: Tensor) -> Tensor:
    """Evaluate a Zernike polynomial of rms 1 over the unit circle.

    Args:
        index: Noll's j: 1 piston, 2 and 3 tilt, 4 defocus, 5 and 6 astigmatism, 7 and 8 coma, 11 spherical.
        rho: Radius, of any shape.
        theta: Angle from the axis to the right, of the same shape.

    Returns:
        Values of that shape.

    Raises:
        UsageError: If the index is not offered.
    """
    n, m = noll(index)
    radial = torch.zeros_like(rho)
    for k in range((n - abs(m)) // 2 + 1):
        below = factorial(k) * factorial((n + abs(m)) // 2 - k) * factorial((n - abs(m)) // 2 - k)
        radial = radial + (-1) ** k * factorial(n - k) / below * rho ** (n - 2 * k)
    if m == 0:
        return sqrt(n + 1) * radial
    angular = torch.cos(m * theta) if m > 0 else torch.sin(-m * theta)
    return sqrt(2 * (n + 1)) * radial * angular


def noll(index: int) -> tuple[int, int]:
    """Turn Noll's index into radial order n and azimuthal frequency m; m is negative for sines.

    Raises:
        UsageError: If the index is not offered.
    """
    if not 1 <= index <= _HIGHEST:
        message = f"expected a Noll index from 1 to {_HIGHEST}, got {index}; choose one of those"
        raise UsageError(message)
    n = 0
    while (n + 1) * (n + 2) // 2 < index:
        n += 1
    place = index - n * (n + 1) // 2  # from 1 within the order
    m = 2 * (place // 2) if n % 2 == 0 else 2 * ((place - 1) // 2) + 1
    return (n, m) if m == 0 or index % 2 == 0 else (n, -m)


def strehl(field: Tensor, perfect: Tensor) -> Tensor:
    """Give the peak intensity of an aberrated point image over that of the perfect one.

    Args:
        field: Pupil function, complex, of shape (P, Q).
        perfect: The same without aberrations.

    Returns:
        A scalar: |sum of field|^2 / |sum of perfect|^2, as the image's middle is the pupil's mean.
    """
    return field.sum().abs() ** 2 / perfect.sum().abs() ** 2


def _polar(size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    down, right = frequencies(size, dtype)
    return 2 * torch.hypot(down, right), torch.atan2(down, right)
