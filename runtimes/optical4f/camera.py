"""From fields at the camera to the signal they stand for: reference, intensity, exposure, read-out, decoding.

Without gradients the work goes block by block, so that it stays in the processor's cache.

Axes: ... broadcast axes of tiles and kernels, F masks per kernel, R references, p q pixels read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .conditions import Conditions
from .detection import Scheme
from .sensor import Exposed, Pattern, expose, pattern, read

CAMERA_OFF = {
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
"""Conditions of a camera that reports the light itself."""

_MASKS = -3
"""Axis of F, and of the references when they are there."""

_ROUNDING = 1 + 1e-6
"""What float32 may add to the brightest pixel itself."""

_BLOCK = 2**18
"""Pixels that are worked on at a time: 1 MB of float32."""


@dataclass(frozen=True)
class Frames:
    """What falls on a camera, and how it is set. Every tensor broadcasts against (..., F, p, q)."""

    light: Tensor
    """Fields, real or complex (incoherent: intensities)."""
    reference: Tensor
    """Amplitude of the reference field."""
    gain: Tensor
    """Field per unit of the signal."""
    floor: Tensor | None
    """Share of the light that comes from a dark input, for the read-out to subtract."""
    per_electron: Tensor | None
    """Electrons per unit of intensity; ``None`` when electrons are not counted."""
    ceiling: Tensor
    """Intensity at which the converter saturates."""
    response: Tensor | None
    """Relative response of the pixels, which stays from frame to frame."""
    dark: Tensor | None
    """Dark signal of the pixels beyond its mean, in electrons, which stays likewise."""

    def blocks(self, axis: int) -> Iterator[Frames]:
        """Cut along an axis into parts that fit a cache; in one part when gradients are wanted.

        Args:
            axis: Counted from the end.
        """
        size = self.light.shape[axis]
        step = max(1, size * _BLOCK // max(1, self.light.numel()))
        if self.light.requires_grad or step >= size:
            yield self
            return
        for start in range(0, size, step):
            yield self._narrow(axis, start, min(step, size - start))

    def _narrow(self, axis: int, start: int, length: int) -> Frames:
        def cut(values: Tensor | None) -> Tensor | None:
            if values is None or values.dim() < -axis or values.shape[axis] == 1:
                return values
            return values.narrow(axis, start, length)

        return replace(self, **{field.name: cut(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class Signal:
    """What a camera reports."""

    values: Tensor
    """Shape (..., p, q)."""
    peak_electrons: float | None
    """In the brightest pixel that is read."""
    saturated: float
    """Share of saturated pixels."""


def sees_fields(conditions: Conditions) -> bool:
    """Whether the camera adds nothing, so that squaring and decoding would only undo each other."""
    return replace(conditions, **CAMERA_OFF) == conditions


def capture(
    light: Tensor,
    largest: Tensor,
    level: Tensor,
    gain: Tensor,
    floor: Tensor | None,
    *,
    axes: list[int],
    scheme: Scheme,
    conditions: Conditions,
    generator: torch.Generator | None,
) -> Signal:
    """Read fields.

    Args:
        light: Fields, real or complex (incoherent: intensities). Shape (..., F, p, q).
        largest: Largest one of each mask. Shape (..., F, 1, 1).
        level: Largest one that was expected, which reference and exposure are set to. Broadcasts likewise.
        gain: Field per unit of the signal. Broadcasts against (..., F, 1, 1).
        floor: What a dark input leaves at the camera, for the read-out to subtract. Likewise.
        axes: Axes of ``light`` along which pixels see the same mask.
        scheme: References and decoding.
        conditions: Light and camera.
        generator: Source of all noise.

    Returns:
        The decoded signal.
    """
    if sees_fields(conditions) and not light.is_complex():
        seen = light if scheme.linear else light.abs()
        return Signal(scheme.join(_unscaled(seen, gain, floor)), None, 0.0)
    reference = conditions.reference * level
    exposed = expose(
        conditions, _brightest(level, reference, scheme), _mean(light, reference, axes, scheme, conditions)
    )
    pixels = tuple(n if axis in axes else 1 for axis, n in enumerate(light.shape))
    fixed = pattern(conditions, pixels, level.dtype)
    drifted = _drifted(light, level, scheme, conditions, generator)
    frames = Frames(
        drifted, reference, gain, floor, exposed.per_electron, exposed.ceiling, fixed.response, fixed.dark
    )
    axis = _longest_lead(light)
    peak = _brightest(largest, reference, scheme)
    count = bool((peak > exposed.ceiling * _ROUNDING).any())
    parts = [_read(part, scheme, conditions, generator, count=count) for part in frames.blocks(axis)]
    electrons = None if exposed.per_electron is None else float((peak * exposed.per_electron).max())
    over = sum(number for _, number in parts) / max(1, light.numel() * len(scheme.references))
    seen = [values for values, _ in parts]
    whole = seen[0] if len(seen) == 1 else torch.cat(seen, axis if axis > _MASKS else axis + 1)
    return Signal(whole, electrons, over)


def _read(
    frames: Frames,
    scheme: Scheme,
    conditions: Conditions,
    generator: torch.Generator | None,
    *,
    count: bool,
) -> tuple[Tensor, int]:
    """Square, read and decode a block. Gives the signal and, if asked, the number of saturated pixels."""
    intensity = _intensities(frames, scheme, conditions, generator)
    exposed = Exposed(_over_references(frames.per_electron), frames.ceiling.unsqueeze(_MASKS))
    fixed = Pattern(_over_references(frames.response), _over_references(frames.dark))
    over = int((intensity.detach() > exposed.ceiling * _ROUNDING).sum()) if count else 0
    readings = read(intensity, exposed, fixed, conditions, generator)
    return scheme.join(_unscaled(scheme.decode(readings, frames.reference), frames.gain, frames.floor)), over


def _brightest(field: Tensor, reference: Tensor, scheme: Scheme) -> Tensor:
    """Give the brightest intensity that a field of this size makes beside the reference."""
    if not scheme.coherent:
        return field
    return field.square() if scheme.references == (0,) else (field + reference).square()


def _intensities(
    frames: Frames, scheme: Scheme, conditions: Conditions, generator: torch.Generator | None
) -> Tensor:
    """Add each reference to the fields and square. Gives (..., F, R, p, q)."""
    if not scheme.coherent:
        return frames.light.unsqueeze(_MASKS)
    squares = [_squared(frames.light, complex(r), frames.reference) for r in scheme.references]
    intensity = squares[0].unsqueeze(_MASKS) if len(squares) == 1 else torch.stack(squares, _MASKS)
    if conditions.laser_rin:
        shape = (*frames.reference.shape[:-2], len(squares), 1, 1)
        intensity = intensity * (1 + conditions.laser_rin * _normal(shape, intensity, generator))
    return intensity


def _squared(light: Tensor, unit: complex, reference: Tensor) -> Tensor:
    real, imaginary = (light.real, light.imag) if light.is_complex() else (light, None)
    real = real + unit.real * reference if unit.real else real
    if unit.imag:
        imaginary = unit.imag * reference if imaginary is None else imaginary + unit.imag * reference
    # A product is faster than a power.
    return real * real if imaginary is None else real * real + imaginary * imaginary


def _drifted(
    light: Tensor, level: Tensor, scheme: Scheme, conditions: Conditions, generator: torch.Generator | None
) -> Tensor:
    """Turn the fields against the reference by an angle that one pass keeps."""
    if not conditions.phase_drift or scheme.references == (0,):
        return light
    angle = conditions.phase_drift * _normal(level.shape, level, generator)
    return light * torch.polar(torch.ones_like(angle), angle)


def _mean(
    light: Tensor, reference: Tensor, axes: list[int], scheme: Scheme, conditions: Conditions
) -> Tensor | None:
    """Mean intensity that is read of each mask, where the exposure asks for it."""
    if conditions.exposure != "mean":
        return None
    if not scheme.coherent:
        return light.detach().mean(axes, keepdim=True)
    own = light.detach().abs().square().mean(axes, keepdim=True)
    return own if scheme.references == (0,) else own + reference.square()


def _unscaled(seen: Tensor, gain: Tensor, floor: Tensor | None) -> Tensor:
    """Take off the floor and divide by the gain of the mask."""
    if floor is not None:
        seen = seen - floor
    return seen * (1 / gain)  # a product is faster than a quotient


def _longest_lead(light: Tensor) -> int:
    """Find the first axis worth cutting, counted from the end: any but that of the masks."""
    axes = [axis for axis in range(-light.dim(), 0) if axis != _MASKS and light.shape[axis] > 1]
    return axes[0] if axes else -1


def _over_references(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.unsqueeze(_MASKS)


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.real.dtype)
