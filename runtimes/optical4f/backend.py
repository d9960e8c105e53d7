"""The seam between a compiled pass and the hardware that carries it out: show two pictures, read one frame.

A bench that has ``display`` replaces the simulator. Light is counted in units of what a fully transparent
input pixel gives through a lossless mask.

Axes: h w tile, k l kernel, P Q plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import torch
from torch import Tensor

from .conditions import IDEAL, Conditions
from .detection import Scheme, bias, get_scheme
from .encoding import Encoding
from .fourier import centred, fft2, ifft2, uncentred
from .masks import behind, intensity_transfer, show
from .plane import WHOLE, Window, fast_plane, place
from .rounding import quantize
from .sensor import Exposed, pattern, read


class Backend(Protocol):
    """Something that shows an input and a mask, and reads the camera."""

    def display(self, input: Tensor, mask: Tensor, *, reference: complex = 0.0) -> Tensor:
        """Show and read once.

        Args:
            input: Amplitude (incoherent: intensity) of each input pixel, 0 to 1; a negative amplitude, to
                -1, is one with a phase of half a wave. Shape (P, Q).
            mask: Transmission of each mask pixel, complex, at most 1 in absolute value, with the frequency 0
                in the middle (at P // 2, Q // 2). Shape (P, Q).
            reference: Field that is added at the camera.

        Returns:
            Counts of the camera, upright. Shape (P, Q).
        """
        ...

    @property
    def light_per_count(self) -> float:
        """Intensity that one count stands for."""
        ...


@dataclass(frozen=True)
class Simulator:
    """A bench made of the same models as a simulated pass."""

    conditions: Conditions = IDEAL
    full_scale: float = 1.0
    """Intensity at which the converter saturates, and that ``electrons`` or the full well stand for."""
    coherent: bool = True
    generator: torch.Generator | None = None

    @property
    def light_per_count(self) -> float:
        """See ``Backend``; without a converter the light itself is reported."""
        bits = self.conditions.adc_bits
        return 1.0 if bits is None else self.full_scale / (2**bits - 1)

    def display(self, input: Tensor, mask: Tensor, *, reference: complex = 0.0) -> Tensor:
        """See ``Backend.display``."""
        amplitude = input.clamp(-1 if self.coherent else 0, 1)
        shown = quantize(amplitude.abs(), self.conditions.input_bits) * amplitude.sign()
        if self.conditions.contrast is not None:
            dark = 1 / (sqrt(self.conditions.contrast) if self.coherent else self.conditions.contrast)
            shown = dark + (1 - dark) * shown
        transfer = behind(uncentred(mask), (1, 1), self.conditions)
        if self.coherent:
            intensity = (ifft2(fft2(shown) * transfer) + reference).abs().square()
        else:
            intensity = ifft2(fft2(shown) * intensity_transfer(transfer)).real
        return self._counts(intensity)

    def _counts(self, intensity: Tensor) -> Tensor:
        conditions, full = self.conditions, torch.tensor(self.full_scale, dtype=intensity.dtype)
        electrons = conditions.full_scale
        exposed = Exposed(None if electrons is None else electrons / full, full)
        fixed = pattern(conditions, tuple(intensity.shape), intensity.dtype)
        plain = conditions.adc_bits is None and electrons is None
        seen = intensity if plain else read(intensity, exposed, fixed, conditions, self.generator)
        return seen / self.light_per_count


def correlate_on(
    backend: Backend,
    tile: Tensor,
    kernel: Tensor,
    *,
    scheme: str = "homodyne",
    encoding: Encoding = "complex",
    conditions: Conditions = IDEAL,
    window: Window = WHOLE,
    reference: float = 1.0,
) -> Tensor:
    """Correlate a tile, or a plane of tiles, on a bench.

    Args:
        backend: The bench.
        tile: Non-negative. Shape (h, w).
        kernel: Real. Shape (k, l).
        scheme: How signs are handled; a name in ``detection.SCHEMES``.
        encoding: How the mask modulates light.
        conditions: Of which the mask's bits and pixels matter.
        window: Padding of the tile, and stride of the pixels that are used.
        reference: Amplitude of the reference field, where the scheme has one.

    Returns:
        The correlation. Shape (p, q).
    """
    way, size = get_scheme(scheme), fast_plane(window, (tile.shape[0], tile.shape[1]))
    shown, gain = show(way.split(kernel), size, encoding, conditions)
    peak = tile.max().clamp(min=torch.finfo(tile.dtype).tiny)
    plane = place(tile / peak, window, size)
    rows, columns = window.read((tile.shape[0], tile.shape[1]), (kernel.shape[0], kernel.shape[1]))
    frames = torch.stack([_frames(backend, plane, mask, way, reference) for mask in shown])
    amplitude = torch.tensor(reference, dtype=tile.dtype)
    fields = way.decode(frames[..., rows, columns], amplitude)
    signal = way.join(fields / (gain if way.coherent else gain.square()))
    if way.name == "kernel-bias":
        signal = signal - bias(kernel) * _box_sums(plane, kernel)[rows, columns]
    return signal * peak


def _frames(backend: Backend, plane: Tensor, mask: Tensor, way: Scheme, reference: float) -> Tensor:
    """Read the intensities of one mask beside every reference. Shape (R, P, Q)."""
    picture = centred(mask)
    counts = [backend.display(plane, picture, reference=complex(r) * reference) for r in way.references]
    return torch.stack(counts) * backend.light_per_count


def _box_sums(plane: Tensor, kernel: Tensor) -> Tensor:
    ones = torch.ones_like(kernel)
    return ifft2(fft2(plane) * fft2(ones, (plane.shape[0], plane.shape[1])).conj()).real
