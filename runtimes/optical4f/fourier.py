"""Fourier transforms over the last two axes, typed, and the frequencies they are ordered by.

Axes: P Q rows and columns of a plane.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

# torch.fft carries no types; MKL carries it out.

_LARGE = 2**18
"""Pixels of a plane from which a batch is slower than its planes one by one [M]."""


def fft2(values: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Transform real or complex planes.

    Args:
        values: Shape (..., P, Q).
        size: Pad with zeros to this size, or ``None``.

    Returns:
        Complex, of the same or the padded shape.
    """
    return cast(Tensor, torch.fft.fft2(values, s=size))


def ifft2(values: Tensor) -> Tensor:
    """Transform complex planes back. Shape (..., P, Q) to the same."""
    return cast(Tensor, torch.fft.ifft2(values))


def rfft2(values: Tensor) -> Tensor:
    """Transform real planes to half a spectrum. Shape (..., P, Q) to (..., P, Q // 2 + 1)."""
    return cast(Tensor, torch.fft.rfft2(values))


def irfft2(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Transform half spectra of real planes back. Shape (..., P, Q // 2 + 1) to (..., P, Q), the size.

    MKL copies a batch before its columns are transformed: large planes are faster one by one.
    """
    if values.shape[:-2].numel() == 1 or size[0] * size[1] < _LARGE:
        return cast(Tensor, torch.fft.irfft2(values, s=size))
    planes = [cast(Tensor, torch.fft.irfft2(plane, s=size)) for plane in values.flatten(0, -3)]
    return torch.stack(planes).reshape(*values.shape[:-2], *size)


def frequencies(size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Give the spatial frequencies of a plane in cycles per pixel.

    Args:
        size: P and Q.
        dtype: Real type of the answer.

    Returns:
        Down, of shape (P, 1), and right, of shape (1, Q).
    """
    down, right = (cast(Tensor, torch.fft.fftfreq(n, dtype=dtype)) for n in size)
    return down[:, None], right[None, :]


def centred(values: Tensor) -> Tensor:
    """Put the frequency 0 in the middle, at P // 2, Q // 2. Shape (..., P, Q)."""
    return cast(Tensor, torch.fft.fftshift(values, dim=(-2, -1)))


def uncentred(values: Tensor) -> Tensor:
    """Put the frequency 0 first again. Shape (..., P, Q)."""
    return cast(Tensor, torch.fft.ifftshift(values, dim=(-2, -1)))
