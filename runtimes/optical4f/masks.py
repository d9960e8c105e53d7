"""From kernels to what the mask plane does to light, once per layer: flip, transform, passivity, encoding.

A 4f correlator with H in its mask gives the input convolved with F^-1{H}. A network's "convolution" is a
correlation, y[n] = sum_m x[n + m] h[m], so for a real kernel the mask is H = conj(F{h}). A mask only absorbs:
H is divided by its largest absolute value, and the read-out multiplies by it again.

Axes: K any leading axes of kernels, F masks that one kernel takes, P Q rows and columns of the mask plane in
the order of the FFT, k l those of a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor

from .aberration import pixel_sinc, pupil
from .conditions import Conditions
from .detection import Scheme, get_scheme
from .encoding import KEEPS_REAL, Encoding, encode
from .fourier import fft2, frequencies, ifft2


@dataclass(frozen=True)
class Masks:
    """Masks of some kernels under one scheme, encoding and set of conditions; passes reuse them."""

    transfer: Tensor
    """What lenses, mask and pixels do to the spectrum of the input. Complex, shape (*K, F, P, Q)."""
    gain: Tensor
    """Field at the camera per unit of the convolution. Shape (*K, F, 1, 1), no gradient."""
    floor: Tensor
    """Camera's signal per unit of light over the whole input plane (a dark frame). Shape (*K, F, 1, 1)."""
    kernel: Tensor
    """The kernels themselves. Shape (*K, k, l)."""
    packed: Tensor | None
    """Two masks of real fields in one, M1 + i M2. Shape (*K, 1, P, Q); else ``None``."""
    light: Tensor
    """Share of the light of a white spectrum that passes. Shape (*K, F)."""
    scheme: Scheme
    encoding: Encoding
    conditions: Conditions
    real: bool
    """Whether real inputs give real fields."""

    @property
    def size(self) -> tuple[int, int]:
        """P and Q."""
        return self.transfer.shape[-2], self.transfer.shape[-1]

    def outputs(self, start: int, count: int) -> Masks:
        """Select kernels along the last but one axis of K, that of a convolution's output channels.

        Args:
            start: First of them.
            count: How many, at most.

        Returns:
            Their masks.
        """
        part = slice(start, start + count)
        return replace(
            self,
            transfer=self.transfer[..., part, :, :, :, :],
            gain=self.gain[..., part, :, :, :, :],
            floor=self.floor[..., part, :, :, :, :],
            kernel=self.kernel[..., part, :, :, :],
            packed=None if self.packed is None else self.packed[..., part, :, :, :, :],
            light=self.light[..., part, :, :],
        )


def prepare_masks(
    kernel: Tensor,
    size: tuple[int, int],
    *,
    scheme: str = "homodyne",
    encoding: Encoding = "complex",
    conditions: Conditions,
    strengths: Tensor | None = None,
    summed: int | None = None,
) -> Masks:
    """Compute masks.

    Args:
        kernel: Real kernels of a correlation. Shape (*K, k, l), no larger than ``size``.
        size: P and Q of the plane that is simulated.
        scheme: How signs are handled; a name in ``detection.SCHEMES``.
        encoding: How the mask modulates light.
        conditions: Bits, misalignment and aberrations of the mask plane.
        strengths: How strongly kernels that share the light of one mask are wanted, relative to each other.
            The half that passivity keeps below is shown as strongly as it allows, the other is dimmed to
            their brightness. Shape (*K, F, 1, 1); ``None``: each as strongly as passivity allows.
        summed: An axis of K, counted from the end, whose kernels share one mask because their light adds;
            they get one gain, small enough wherever in the mask they lie.

    Returns:
        The masks; differentiable with respect to ``kernel``.

    Raises:
        UsageError: If scheme or encoding is not known.
    """
    way = get_scheme(scheme)
    shown, measured = show(way.split(kernel), size, encoding, conditions, strengths=strengths, summed=summed)
    transfer = behind(shown, (kernel.shape[-2], kernel.shape[-1]), conditions)
    if not way.coherent:
        transfer, measured = intensity_transfer(transfer), measured.square()
    tilted = any(conditions.mask_shift) or conditions.aberrated
    real = not way.coherent or (encoding in KEEPS_REAL and not tilted)
    packed = transfer[..., :1, :, :] + 1j * transfer[..., 1:, :, :] if real and way.parts == 2 else None
    return Masks(
        transfer=transfer,
        gain=measured,
        floor=transfer[..., :1, :1].detach(),
        kernel=kernel,
        packed=packed,
        light=_power(shown).mean((-2, -1)),
        scheme=way,
        encoding=encoding,
        conditions=conditions,
        real=real,
    )


def show(
    parts: Tensor,
    size: tuple[int, int],
    encoding: Encoding,
    conditions: Conditions,
    *,
    strengths: Tensor | None = None,
    summed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Find what masks display.

    Args:
        parts: Kernels as a scheme splits them. Shape (*K, F, k, l).
        size: P and Q.
        encoding: How the mask modulates light.
        conditions: Bits of the mask, and pixels that it compensates.
        strengths: As for ``prepare_masks``.
        summed: Likewise.

    Returns:
        Transmissions, complex, of shape (*K, F, P, Q), and the field per unit of the kernel's convolution
        that they give, of shape (*K, F, 1, 1), without gradient.
    """
    wanted = correlation(parts, size)
    scale = _passive(wanted, summed)
    if strengths is not None:
        scale = torch.minimum(scale, strengths * (scale / strengths).median())
    shown = _displayed(wanted * scale, encoding, conditions)
    plain = conditions.mask_bits is None and not conditions.precompensate
    # The second image of a double phase is out of phase, so it is no part of the fit.
    exact = encoding == "double-phase" or (encoding == "complex" and plain)
    return shown, scale if exact else _fitted(_through_pixels(shown, conditions), wanted, scale)


def behind(shown: Tensor, extent: tuple[int, int], conditions: Conditions) -> Tensor:
    """Add what misalignment, aberrations and pixels do to the light on top of what the mask shows.

    Args:
        shown: Transmissions, complex. Shape (..., P, Q).
        extent: k and l of the kernel, whose middle lies on the axis.
        conditions: All of these.

    Returns:
        The transfer function of the system. Shape (..., P, Q).
    """
    size, dtype = _plane(shown), shown.real.dtype
    moved = _moved(shown, extent, conditions) if any(conditions.mask_shift) else shown
    for factor in (
        pupil(conditions, size, dtype),
        pixel_sinc(conditions.input_fill, size, dtype),
        _camera_ramp(conditions, size, dtype),
    ):
        moved = moved if factor is None else moved * factor
    return moved


def correlation(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Give the transfer function of a correlation, H = conj(F{h}).

    Args:
        kernel: Real. Shape (*K, k, l), no larger than ``size``.
        size: P and Q.

    Returns:
        Complex, shape (*K, P, Q).
    """
    return fft2(kernel, size).conj().resolve_conj()


def intensity_transfer(transfer: Tensor) -> Tensor:
    """Give what the mask does to intensities in incoherent light, F{|F^-1{H}|^2} (Goodman, 6.3) [K].

    Args:
        transfer: Of the field, complex. Shape (..., P, Q).

    Returns:
        Of the intensity, complex. Shape (..., P, Q).
    """
    point = ifft2(transfer)
    return fft2(point.real.square() + point.imag.square())


def _passive(wanted: Tensor, summed: int | None) -> Tensor:
    """Give the scale at which no mask amplifies, and 1 for an empty one. Shape (*K, F, 1, 1)."""
    largest = wanted.detach().abs().amax((-2, -1), keepdim=True)
    if summed is not None:
        largest = largest.sum(summed - 3, keepdim=True).expand(largest.shape)
    return torch.where(largest > 0, 1 / largest, torch.ones_like(largest))


def _displayed(wanted: Tensor, encoding: Encoding, conditions: Conditions) -> Tensor:
    sinc = pixel_sinc(conditions.input_fill, _plane(wanted), wanted.real.dtype)
    if conditions.precompensate and sinc is not None:
        wanted = wanted * (sinc.min() / sinc)
    return encode(wanted, encoding, conditions.mask_bits)


def _through_pixels(shown: Tensor, conditions: Conditions) -> Tensor:
    """Give what a precompensated mask amounts to behind the pixels that it compensates."""
    sinc = pixel_sinc(conditions.input_fill, _plane(shown), shown.real.dtype)
    return shown if sinc is None or not conditions.precompensate else shown * sinc


def _moved(shown: Tensor, extents: tuple[int, int], conditions: Conditions) -> Tensor:
    """Shift the mask by d pixels: its kernel gains the phase 2 pi d x/N, x from the kernel's middle."""
    size = _plane(shown)
    point = ifft2(shown)
    for axis, shift, pixels, extent in zip(
        (-2, -1), conditions.mask_shift, conditions.mask_pixels or size, extents, strict=True
    ):
        phase = 2 * pi * shift / pixels * _offsets(shown.shape[axis], extent, shown.real.dtype)
        ramp = torch.polar(torch.ones_like(phase), phase)
        point = point * (ramp[:, None] if axis == -2 else ramp)
    return fft2(point)


def _offsets(size: int, extent: int, dtype: torch.dtype) -> Tensor:
    """Distances of pixels from the middle of the flipped kernel, which occupies 0, -1, ... 1 - extent."""
    middle = (extent - 1) / 2
    return (torch.arange(size, dtype=dtype) + middle + size / 2) % size - size / 2


def _camera_ramp(conditions: Conditions, size: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """Read the field beside its pixels: a linear phase over the frequencies, real where there is only one."""
    if not any(conditions.camera_shift):
        return None
    total = torch.ones((), dtype=torch.complex64 if dtype == torch.float32 else torch.complex128)
    for axis, shift in zip(frequencies(size, dtype), conditions.camera_shift, strict=True):
        ramp = torch.polar(torch.ones_like(axis), 2 * pi * shift * axis)
        total = total * torch.where(axis == -0.5, ramp.real.to(total.dtype), ramp)
    return total


def _fitted(shown: Tensor, wanted: Tensor, scale: Tensor) -> Tensor:
    """Calibrate the electronic gain: the multiple of H that comes nearest to what the mask shows.

    Nearest on images whose power falls as 1/frequency^2 (Field, J. Opt. Soc. Am. A 4, 2379, 1987) [K].
    """
    down, right = frequencies(_plane(shown), shown.real.dtype)
    weight = 1 / (down.square() + right.square() + 1 / (shown.shape[-2] * shown.shape[-1]))
    shown, wanted = shown.detach(), wanted.detach()
    power = (_power(shown) * weight).sum((-2, -1), keepdim=True)
    common = ((shown * wanted.conj()).real * weight).sum((-2, -1), keepdim=True)
    return torch.where((common > 0) & (power > 0), power / common, scale)


def _power(shown: Tensor) -> Tensor:
    """Square the absolute values, without the root that ``abs`` takes."""
    return torch.view_as_real(shown.detach().resolve_conj()).square().sum(-1)


def _plane(values: Tensor) -> tuple[int, int]:
    return values.shape[-2], values.shape[-1]
