"""From amplitudes to the signal that a camera gives for them: modulator, light, reference, camera, decoding.

Axes: T leading axes of tiles, K of kernels, which broadcast, F masks per kernel, R references, h w tile, p q
pixels read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .conditions import Conditions
from .detection import bias
from .masks import Masks
from .plane import Window, fields, place
from .rounding import quantize
from .sensor import expose, pattern, read

_CAMERA_OFF = {
    "electrons": None,
    "full_well": None,
    "adc_bits": None,
    "read_noise": 0.0,
    "dark": 0.0,
    "dsnu": 0.0,
    "prnu": 0.0,
    "offset": 0.0,
    "laser_rin": 0.0,
    "phase_drift": 0.0,
}


@dataclass(frozen=True)
class Seen:
    """What came of one observation."""

    answer: Tensor
    """Correlation of the amplitudes that were asked for. Shape (broadcast of T and K, p, q)."""
    level: Tensor
    """Largest field that is read of each mask (incoherent: intensity). Shape (..., F, 1, 1)."""
    peak_electrons: float | None
    saturated: float


@dataclass(frozen=True)
class Bench:
    """Masks in their place, and how they are looked at."""

    masks: Masks
    window: Window
    level: Tensor | None
    summed: int | None
    generator: torch.Generator | None

    def observe(self, amplitude: Tensor) -> Seen:
        """Show tiles and read them.

        Args:
            amplitude: Wanted amplitude (incoherent: intensity) of each input pixel, 0 to 1. Shape (*T, h, w).

        Returns:
            The signal, in units of amplitude times kernel.
        """
        masks, conditions = self.masks, self.masks.conditions
        shown = quantize(amplitude.clamp(0, 1), conditions.input_bits)
        dark = _dark(conditions, masks.scheme.coherent)
        light = fields(shown, masks, self.window, summed=self.summed)
        if dark:
            light = (1 - dark) * light + dark * self._floor(light)
        level = self._level(light)
        decoded, peak_electrons, saturated = self._camera(light, level)
        gain = masks.gain if self.summed is None else masks.gain.select(self.summed - 3, 0)
        signal = decoded / gain
        if dark and conditions.contrast_known:
            signal = (signal - dark * self._floor(light).real / gain) / (1 - dark)
        return Seen(masks.scheme.join(signal) - self._bias(shown), level, peak_electrons, saturated)

    def calibration(self, tile: tuple[int, int]) -> Tensor:
        """Observe a uniformly bright tile without noise, as a long calibration frame does.

        Args:
            tile: h and w.

        Returns:
            Shape (K less a summed axis, p, q).
        """
        off = replace(self.masks.conditions, **_CAMERA_OFF)
        quiet = replace(self, masks=replace(self.masks, conditions=off), level=None, generator=None)
        return quiet.observe(torch.ones(tile, dtype=self.masks.kernel.dtype)).answer

    def _floor(self, light: Tensor) -> Tensor:
        floor = self.masks.floor if self.summed is None else self.masks.floor.sum(self.summed - 3)
        return floor if light.is_complex() else floor.real

    def _tile_axes(self, light: Tensor) -> list[int]:
        """Axes of (..., F, p, q) along which pixels see the same mask, the pixels' own among them."""
        leading = light.dim() - 3
        kernels = list(self.masks.kernel.shape[:-2])
        if self.summed is not None:
            kernels = [1] * max(0, leading + 1 - len(kernels)) + kernels
            del kernels[self.summed]
        kernels = [1] * (leading - len(kernels)) + kernels
        return [axis for axis in range(leading) if kernels[axis] == 1] + [leading + 1, leading + 2]

    def _level(self, light: Tensor) -> Tensor:
        if self.level is not None:
            return self.level
        largest = light.detach().abs().amax(self._tile_axes(light), keepdim=True)
        return torch.where(largest > 0, largest, torch.ones_like(largest))

    def _bias(self, shown: Tensor) -> Tensor | float:
        """Sum each kernel's window of the input electronically, times the constant that made it positive."""
        masks = self.masks
        if masks.scheme.name != "kernel-bias":
            return 0.0
        extent = self.window.extent((shown.shape[-2], shown.shape[-1]))
        plane = place(shown, self.window, extent)
        flat = plane.reshape(-1, 1, *extent)
        k, l = masks.kernel.shape[-2:]  # noqa: E741  # axis letters
        sums = avg_pool2d(flat, (k, l), self.window.stride, divisor_override=1)
        biased = bias(masks.kernel) * sums.reshape(*plane.shape[:-2], *sums.shape[-2:])
        return biased if self.summed is None else biased.sum(self.summed - 2)

    def _camera(self, light: Tensor, level: Tensor) -> tuple[Tensor, float | None, float]:
        """Read fields through intensities. Gives (..., F, p, q), brightest electrons and saturated share."""
        scheme, conditions = self.masks.scheme, self.masks.conditions
        if _sees_fields(conditions) and not light.is_complex():
            return (light if scheme.linear else light.abs()), None, 0.0
        reference = conditions.reference * level
        intensity = self._intensities(light, reference)
        axes = [axis if axis < light.dim() - 2 else axis + 1 for axis in self._tile_axes(light)]
        peak = (level + reference).square() if scheme.references != (0,) else level.square()
        peak = (peak if scheme.coherent else level).unsqueeze(-3)
        mean = intensity.detach().mean(axes, keepdim=True).mean(-3, keepdim=True)
        exposed = expose(conditions, peak, mean)
        pixels = tuple(n if axis in axes else 1 for axis, n in enumerate(intensity.shape))
        readings = read(
            intensity, exposed, pattern(conditions, pixels, peak.dtype), conditions, self.generator
        )
        brightest = None if exposed.per_electron is None else float((peak * exposed.per_electron).max())
        over = float((intensity > exposed.ceiling * (1 + 1e-6)).float().mean())
        return scheme.decode(readings, reference), brightest, over

    def _intensities(self, light: Tensor, reference: Tensor) -> Tensor:
        """Add each reference to the fields and square. Gives (..., F, R, p, q)."""
        scheme, conditions = self.masks.scheme, self.masks.conditions
        if not scheme.coherent:
            return light.unsqueeze(-3)
        if conditions.phase_drift:
            phase = conditions.phase_drift * torch.randn(reference.shape, generator=self.generator).to(
                reference
            )
            light = light * torch.polar(torch.ones_like(phase), phase)
        frames = torch.stack([_squared(light, complex(r), reference) for r in scheme.references], -3)
        if conditions.laser_rin:
            shape = (*reference.shape[:-2], len(scheme.references), 1, 1)
            frames = frames * (
                1 + conditions.laser_rin * torch.randn(shape, generator=self.generator).to(frames)
            )
        return frames


def _sees_fields(conditions: Conditions) -> bool:
    """Whether the camera adds nothing, so that squaring and decoding would only undo each other."""
    off = replace(conditions, **_CAMERA_OFF)
    return off == conditions


def _squared(light: Tensor, unit: complex, reference: Tensor) -> Tensor:
    real, imaginary = (light.real, light.imag) if light.is_complex() else (light, None)
    real = real + unit.real * reference if unit.real else real
    if unit.imag:
        imaginary = unit.imag * reference if imaginary is None else imaginary + unit.imag * reference
    return real.square() if imaginary is None else real.square() + imaginary.square()


def _dark(conditions: Conditions, coherent: bool) -> float:
    """Give what a dark input pixel lets through: amplitude when coherent, intensity when not."""
    if conditions.contrast is None:
        return 0.0
    return 1 / sqrt(conditions.contrast) if coherent else 1 / conditions.contrast
