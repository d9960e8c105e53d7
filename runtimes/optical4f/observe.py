"""From amplitudes to the signal that the processor gives for them: modulator, light, camera, sums.

Axes: T leading axes of tiles, K of kernels, which broadcast, F masks per kernel, h w tile, p q pixels read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from math import prod, sqrt

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .camera import CAMERA_OFF, Signal, capture, sees_fields
from .conditions import Conditions
from .detection import bias
from .masks import Masks
from .plane import Spectrum, Window, fields, place, shared, spectrum
from .rounding import quantize

_MOST_VALUES = 2**18
"""Field values that are propagated at a time: 2 MB of complex64."""

_ANSWER_OUTPUTS, _LEVEL_OUTPUTS = -4, -5
"""Axis of the last but one of K in an answer and in a level, when nothing was summed behind it."""


@dataclass(frozen=True)
class Seen:
    """What came of one observation."""

    answer: Tensor
    """Correlation of the amplitudes that were asked for. Shape (broadcast of T and K, p, q), less sums."""
    level: Tensor
    """Largest field that is read of each mask (incoherent: intensity). Shape (..., F, 1, 1)."""
    peak_electrons: float | None
    saturated: float


@dataclass(frozen=True)
class Bench:
    """Masks in their place, and how they are looked at."""

    masks: Masks
    window: Window
    peak: float
    """Input that the modulator shows as fully bright."""
    level: Tensor | None = None
    summed: int | None = None
    """Axis of the broadcast T and K, from the end, that adds in the light."""
    added: int | None = None
    """Axis of the answer's leading ones, from the end, that adds after the camera."""
    generator: torch.Generator | None = None
    alone: bool = False
    """Whether no two tiles may share a transform."""

    def observe(self, inputs: Tensor) -> Seen:
        """Show tiles and read them: a few at a time where nothing depends on all, so as to stay in the cache.

        Args:
            inputs: Up to ``peak``, beyond which they saturate. Shape (*T, h, w).

        Returns:
            Their correlation.
        """
        most = max(2, _MOST_VALUES // max(1, prod(inputs.shape[1:])))
        if inputs.dim() < 3 or most >= inputs.shape[0] or not self._apart(inputs):
            return self._observe(inputs)
        parts = [self._observe(inputs[at : at + most]) for at in range(0, inputs.shape[0], most)]
        return _joined(parts, 0, torch.stack([part.level for part in parts]).amax(0))

    def _apart(self, inputs: Tensor) -> bool:
        """Whether tiles along the first axis could as well come one after the other."""
        conditions, leading = self.masks.conditions, inputs.dim() - 2
        fixed = not (conditions.prnu or conditions.dsnu or conditions.laser_rin or conditions.phase_drift)
        known = self.level is not None or sees_fields(conditions)
        alone = -leading not in (self.summed, self.added) and shared(inputs, self.masks)
        return fixed and known and alone and not inputs.requires_grad

    def _observe(self, inputs: Tensor) -> Seen:
        """Show tiles and read them, a few kernels at a time."""
        masks = self.masks
        shown = _shown(inputs, self.peak, masks.conditions.input_bits)
        light = spectrum(shown, masks, self.window, summed=self.summed, alone=self.alone)
        outputs = masks.kernel.shape[-4] if masks.kernel.dim() > 3 else 1
        pairs = _pairs(light.values.shape[:-2], masks.transfer.shape[:-2])
        # What adds in the light never lies in memory, and a pixel that is read alone has no plane.
        added = 1 if self.summed is None else masks.kernel.shape[self.summed - 2]
        values = pairs // added * (1 if light.form == "pixels" else prod(masks.size))
        step = max(1, outputs * _MOST_VALUES // max(1, values))
        if step >= outputs:
            return self._look(light, shown, once=True)
        parts = [self._of(start, min(step, outputs - start)) for start in range(0, outputs, step)]
        seen = [part._look(light, shown) for part in parts]
        gone, axis = (self.summed is not None) + (self.added is not None), _LEVEL_OUTPUTS
        axis += self.summed is not None
        level = torch.cat([part.level for part in seen], axis) if self.level is None else self.level
        return _joined(seen, _ANSWER_OUTPUTS + gone, level)

    def calibration(self, tile: tuple[int, int]) -> Tensor:
        """Observe a uniformly bright tile without noise, as a long calibration frame does.

        Args:
            tile: h and w.

        Returns:
            Shape (K less what summed, p, q).
        """
        off = replace(self.masks.conditions, **CAMERA_OFF)
        quiet = replace(self, masks=replace(self.masks, conditions=off), level=None)
        ones = torch.full(tile, self.peak, dtype=self.masks.kernel.dtype)
        return quiet.observe(ones.expand(*(1,) * (self.masks.kernel.dim() - 2), *tile)).answer

    def _look(self, light: Spectrum, shown: Tensor, *, once: bool = False) -> Seen:
        """Pass light through masks to the camera; ``once`` if it is not needed again."""
        masks, conditions = self.masks, self.masks.conditions
        tile, kernel = shown.shape[-2:], masks.kernel.shape[-2:]
        region = self.window.read((tile[0], tile[1]), (kernel[0], kernel[1]))
        field = fields(light, masks, region, summed=self.summed, once=once)
        gain = masks.gain if self.summed is None else masks.gain.select(self.summed - 3, 0)
        gain = gain / self.peak
        dark, floor = _dark(conditions, masks.scheme.coherent), None
        if dark:
            glow = dark * (masks.floor if self.summed is None else masks.floor.sum(self.summed - 3))
            field = (1 - dark) * field + (glow if field.is_complex() else glow.real)
            floor, gain = (glow.real if conditions.contrast_known else None), gain * (1 - dark)
        axes = self._tile_axes(field)
        largest = _largest(field, axes)
        level = largest if self.level is None else self.level
        seen = capture(
            field,
            largest,
            level,
            gain,
            floor,
            axes=axes,
            scheme=masks.scheme,
            conditions=conditions,
            generator=self.generator,
        )
        return Seen(self._summed(seen, shown), level, seen.peak_electrons, seen.saturated)

    def _summed(self, seen: Signal, shown: Tensor) -> Tensor:
        """Take off the electronic share of a bias, and add what adds after the camera."""
        masks, values = self.masks, seen.values
        if masks.scheme.name == "kernel-bias":
            biased = bias(masks.kernel) * self.peak * _box_sums(shown, masks, self.window)
            values = values - (biased if self.summed is None else biased.sum(self.summed - 2))
        return values if self.added is None else values.sum(self.added - 2)

    def _tile_axes(self, field: Tensor) -> list[int]:
        """Axes of (..., F, p, q) along which pixels see the same mask, the pixels' own among them."""
        leading = field.dim() - 3
        kernels = list(self.masks.kernel.shape[:-2])
        if self.summed is not None:
            kernels = [1] * max(0, leading + 1 - len(kernels)) + kernels
            del kernels[self.summed]
        kernels = [1] * (leading - len(kernels)) + kernels
        return [axis for axis in range(leading) if kernels[axis] == 1] + [leading + 1, leading + 2]

    def _of(self, start: int, count: int) -> Bench:
        """Select kernels along the last but one axis of K, and their levels."""
        level, axis = self.level, _LEVEL_OUTPUTS + (self.summed is not None)
        if level is not None and level.dim() >= -axis and level.shape[axis] > 1:
            level = level.narrow(axis, start, count)
        return replace(self, masks=self.masks.outputs(start, count), level=level)


def _pairs(tiles: tuple[int, ...], kernels: tuple[int, ...]) -> int:
    """Count what two shapes broadcast to."""
    return prod(max(pair) for pair in zip_longest(tiles[::-1], kernels[::-1], fillvalue=1))


def _joined(parts: list[Seen], axis: int, level: Tensor) -> Seen:
    """Put answers one after the other along an axis."""
    electrons = [part.peak_electrons for part in parts if part.peak_electrons is not None]
    sizes = [part.answer.numel() for part in parts]
    return Seen(
        torch.cat([part.answer for part in parts], axis),
        level,
        max(electrons, default=None),
        sum(part.saturated * n for part, n in zip(parts, sizes, strict=True)) / max(1, sum(sizes)),
    )


def _shown(inputs: Tensor, peak: float, bits: int | None) -> Tensor:
    """Round to what the modulator shows; negative amplitudes are phases of half a wave, as long as others."""
    if bool(inputs.detach().amin() < 0):
        amplitude = (inputs / peak).clamp(-1, 1)
        return quantize(amplitude.abs(), bits) * amplitude.detach().sign()
    if inputs.requires_grad:
        return quantize((inputs / peak).clamp(max=1), bits)
    if bits is None:
        return (inputs / peak).clamp_(max=1)
    steps = 2**bits - 1
    return (inputs * (steps / peak)).clamp_(max=steps).round_().div_(steps)


def _largest(field: Tensor, axes: list[int]) -> Tensor:
    """Largest absolute value of each mask, and 1 where all is dark. Shape (..., F, 1, 1)."""
    field = field.detach()
    if field.is_complex():
        largest = field.abs().amax(axes, keepdim=True)
    else:
        largest = torch.maximum(field.amax(axes, keepdim=True), -field.amin(axes, keepdim=True))
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _box_sums(shown: Tensor, masks: Masks, window: Window) -> Tensor:
    """Sum each kernel's window of the input electronically. Shape (*T, p, q)."""
    extent = window.extent((shown.shape[-2], shown.shape[-1]))
    plane = place(shown, window, extent)
    sums = avg_pool2d(
        plane.reshape(-1, 1, *extent), masks.kernel.shape[-2:], window.stride, divisor_override=1
    )
    return sums.reshape(*plane.shape[:-2], *sums.shape[-2:])


def _dark(conditions: Conditions, coherent: bool) -> float:
    """Give what a dark input pixel lets through: amplitude when coherent, intensity when not."""
    if conditions.contrast is None:
        return 0.0
    return 1 / sqrt(conditions.contrast) if coherent else 1 / conditions.contrast
