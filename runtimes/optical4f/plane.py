"""The plane model of a 4f correlator: field = F^-1{F{amplitude} M}, batched, with real fields in pairs.

Two lenses each take a Fourier transform, so a physical camera sees the field upside down; the camera is
mounted (or read) the other way round, and the model takes an inverse transform second. It agrees with
sampled wave optics to 1.4e-4 in sqrt(I) [M]; dropped are constants and the paraxial phase (Goodman,
Introduction to Fourier Optics, 5.2 and 8.1) [K].

Real fields come two for one: with Hermitian masks M1, M2 and a real amplitude a, F^-1{F{a}(M1 + i M2)} = E1
+ i E2, and with two real amplitudes, F^-1{F{a1 + i a2} M} = E1 + i E2.

Axes: T leading axes of tiles, K of kernels, which broadcast, F masks per kernel, P Q plane, h w tile, p q
pixels read.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...errors import UsageError
from .fourier import fft2, ifft2, irfft2, rfft2
from .masks import Masks

# fmt: off
SIZES = (
    1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 32, 36, 40, 48, 64, 72, 80, 96, 128, 144, 160, 192, 216,
    256, 288, 320, 384, 432, 480, 512, 576, 640, 720, 768, 1024, 1280, 1536, 1600, 2048, 2560, 3072, 4096,
)
"""Sizes of plane that are faster to transform than every larger one, measured with MKL in complex64 [M]."""
# fmt: on


_CACHED = 2**18
"""Pixels of a plane up to which two masks in one are faster; larger ones are bound by memory [M]."""


@dataclass(frozen=True)
class Window:
    """Where a tile lies in its plane, and which pixels of the camera are read."""

    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Dark pixels above, left, below and right of the tile, which the kernel may cover."""
    stride: tuple[int, int] = (1, 1)
    """Pixels from one that is read to the next, down and right."""

    def __post_init__(self) -> None:
        if min(self.padding) < 0 or min(self.stride) < 1:
            got = f"{self.padding} and {self.stride}"
            message = f"expected padding of at least 0 and strides of at least 1, got {got}"
            raise UsageError(message + "; crop the tile instead")

    def extent(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Give the size of tile and padding together, which no result wraps around."""
        top, left, below, right = self.padding
        return tile[0] + top + below, tile[1] + left + right

    def read(self, tile: tuple[int, int], kernel: tuple[int, int]) -> tuple[slice, slice]:
        """Give the pixels that hold results of a correlation.

        Args:
            tile: h and w.
            kernel: k and l.

        Returns:
            Slices down and right.

        Raises:
            UsageError: If the kernel covers more than tile and padding.
        """
        lengths = [n - k + 1 for n, k in zip(self.extent(tile), kernel, strict=True)]
        if min(lengths) < 1:
            message = (
                f"expected a kernel within the {self.extent(tile)} pixels of tile and padding, got {kernel}"
            )
            raise UsageError(message + "; pad the tile or take a smaller kernel")
        rows, columns = (slice(0, n, s) for n, s in zip(lengths, self.stride, strict=True))
        return rows, columns


WHOLE = Window()
"""No padding, every pixel."""


def fast_size(extent: int) -> int:
    """Find the size of plane that is fastest to transform.

    Args:
        extent: Pixels that have to fit.

    Returns:
        ``extent`` or more.
    """
    place = bisect_left(SIZES, extent)
    return SIZES[place] if place < len(SIZES) else extent


def fast_plane(window: Window, tile: tuple[int, int]) -> tuple[int, int]:
    """Find the plane that is fastest to transform for tiles in a window."""
    rows, columns = window.extent(tile)
    return fast_size(rows), fast_size(columns)


def place(amplitude: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Put tiles into dark planes.

    Args:
        amplitude: Shape (*T, h, w).
        window: Where.
        size: P and Q.

    Returns:
        Shape (*T, P, Q).

    Raises:
        UsageError: If they do not fit.
    """
    top, left, _, _ = window.padding
    extent = window.extent((amplitude.shape[-2], amplitude.shape[-1]))
    if extent[0] > size[0] or extent[1] > size[1]:
        message = f"expected tile and padding of at most {size} pixels, got {extent}; take a larger plane"
        raise UsageError(message)
    below, right = size[0] - top - amplitude.shape[-2], size[1] - left - amplitude.shape[-1]
    return pad(amplitude, (left, right, top, below))


@dataclass(frozen=True)
class Spectrum:
    """Transformed tiles, in the form that suits the masks."""

    values: Tensor
    """Shape (*T, 1, P, Q), or half of the columns, or with two tiles in one."""
    form: Literal["complex", "half", "paired", "packed", "pixels"]
    """``pixels``: not transformed, because one pixel is read and a product with the response is shorter."""
    tiles: int
    """Size of the first axis of T, which pairing halves."""


def spectrum(
    amplitude: Tensor, masks: Masks, window: Window, *, summed: int | None = None, alone: bool = False
) -> Spectrum:
    """Transform tiles.

    Args:
        amplitude: Real field (incoherent: intensity) behind the input. Shape (*T, h, w).
        masks: What they will pass, with leading axes K that broadcast against T.
        window: Where the tiles lie.
        summed: As in ``fields``.
        alone: Whether no two tiles may share a transform, and with it the last bit.

    Returns:
        The spectrum, for ``fields`` under the same masks or outputs of them.
    """
    plane = place(amplitude, window, masks.size)
    tiles = plane.shape[0] if plane.dim() > 2 else 1
    if masks.real and _adds_channels(plane.dim() - 2, masks, summed) and _one_pixel(amplitude, masks, window):
        return Spectrum(plane.unsqueeze(-3), "pixels", tiles)
    if masks.real and masks.packed is not None and prod(masks.size) <= _CACHED:
        return Spectrum(fft2(plane).unsqueeze(-3), "packed", tiles)
    if (
        masks.real
        and not alone
        and masks.packed is None
        and tiles > 1
        and shared(plane, masks)
        and summed != 2 - plane.dim()
    ):
        even = plane if tiles % 2 == 0 else torch.cat((plane, torch.zeros_like(plane[:1])))
        return Spectrum(fft2(torch.complex(even[0::2], even[1::2])).unsqueeze(-3), "paired", tiles)
    if masks.real:
        return Spectrum(rfft2(plane).unsqueeze(-3), "half", tiles)
    return Spectrum(fft2(plane).unsqueeze(-3), "complex", tiles)


def fields(
    light: Spectrum,
    masks: Masks,
    region: tuple[slice, slice],
    *,
    summed: int | None = None,
    once: bool = False,
) -> Tensor:
    """Propagate transformed tiles through masks to the pixels of the camera that are read.

    Args:
        light: From ``spectrum``.
        masks: Masks whose leading axes K broadcast against T.
        region: Pixels that are read, from ``Window.read``.
        summed: An axis of the broadcast T and K, counted from the end, over which the fields add in the light
            (channel tiling); ``None`` for none.
        once: Whether the spectrum is not needed again, so that its memory can be used.

    Returns:
        Real fields where the masks allow, else complex. Shape (broadcast of T and K, F, p, q).
    """
    rows, columns = region
    if light.form == "pixels":
        return _read_one(light.values, masks)
    if light.form == "half":
        half = masks.transfer[..., : masks.size[1] // 2 + 1]
        if prod(masks.size) > _CACHED and half.shape[-3] > 1:
            # One mask after the other stays in the cache, and only what is read is kept.
            masked = (half.narrow(-3, f, 1) for f in range(half.shape[-3]))
            passed = (_transmitted(light.values, one, summed, False) for one in masked)
            return torch.cat([irfft2(one, masks.size)[..., rows, columns] for one in passed], -3)
        return irfft2(_transmitted(light.values, half, summed, once), masks.size)[..., rows, columns]
    transfer = masks.packed if light.form == "packed" and masks.packed is not None else masks.transfer
    seen = ifft2(_transmitted(light.values, transfer, summed, once))[..., rows, columns]
    if light.form == "paired":
        return torch.stack((seen.real, seen.imag), 1).flatten(0, 1)[: light.tiles]
    return torch.cat((seen.real, seen.imag), -3) if light.form == "packed" else seen


def _transmitted(values: Tensor, transfer: Tensor, summed: int | None, once: bool) -> Tensor:
    """Multiply (*T, 1, P, Q) and (*K, F, P, Q), and add over an axis of the broadcast T and K."""
    if summed is None:
        alone = once and transfer.dim() <= values.dim() and transfer.numel() <= values.numel()
        free = alone and not values.requires_grad and not transfer.requires_grad
        same = free and all(
            n in (1, m) for n, m in zip(transfer.shape[::-1], values.shape[::-1], strict=False)
        )
        return values.mul_(transfer) if same else values * transfer
    if summed == -1 and transfer.dim() == 6 and values.dim() >= 7 and values.shape[-5] == 1:
        # One matrix product per frequency: (B, C) of tiles times (C, M F) of masks, for each group.
        flat = values.squeeze(-5).squeeze(-3).flatten(0, -5)
        added = torch.einsum("bgcpq,gmcfpq->bgmfpq", flat, transfer)
        return added.reshape(*values.shape[:-6], *added.shape[1:])
    return (values * transfer).sum(summed - 3)


def _adds_channels(leading: int, masks: Masks, summed: int | None) -> bool:
    """Whether tiles of shape (*T, G, 1, C) add over C behind masks of shape (G, M, C)."""
    return summed == -1 and leading >= 4 and masks.kernel.dim() == 5


def _one_pixel(amplitude: Tensor, masks: Masks, window: Window) -> bool:
    tile, kernel = amplitude.shape[-2:], masks.kernel.shape[-2:]
    return window.extent((tile[0], tile[1])) == (kernel[0], kernel[1]) and amplitude.shape[-4] == 1


def _read_one(plane: Tensor, masks: Masks) -> Tensor:
    """Read the first pixel of a correlation: the sum of amplitude times mirrored point response.

    Args:
        plane: Tiles in their planes. Shape (*T, G, 1, C, 1, P, Q).
        masks: Of real fields, with K = (G, M, C).

    Returns:
        Shape (*T, G, M, F, 1, 1).
    """
    response = ifft2(masks.transfer).real.flip((-2, -1)).roll((1, 1), (-2, -1))
    flat = plane.squeeze(-5).squeeze(-3).flatten(0, -5)
    seen = torch.einsum("bgcpq,gmcfpq->bgmf", flat, response)
    return seen.reshape(*plane.shape[:-6], *seen.shape[1:], 1, 1)


def shared(tiles: Tensor, masks: Masks) -> bool:
    """Say whether tiles along the first axis see the same masks and have answers of their own.

    Args:
        tiles: Shape (*T, h, w).
        masks: With leading axes K that broadcast against T.
    """
    leading, kernels = tiles.dim() - 2, masks.kernel.dim() - 2
    return kernels < leading or (kernels == leading and leading > 0 and masks.kernel.shape[0] == 1)
