"""Carrying out one layer: pictures in, masks from a cache, answers out.

A layer is set up once, on real samples: the largest input that the modulator is set to, and the largest field
of each kernel, which sets reference and exposure. Kernels that share a frame share one mask and one exposure;
kernels with a frame of their own each have their own.

Axis letters as in ``lower``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .conditions import IDEAL, Conditions
from .convolve import Geometry, conv_masks, optical_conv2d
from .device_conditions import conditions_of, signs_of
from .lower import Layer, from_answers, to_pictures
from .masks import Masks
from .plane import Window
from .presets import System
from .vary import Adjust, as_it_is

HEADROOM = 1.25
"""How much brighter than the samples it was set up on an input or a field may be before it saturates."""

_LARGEST_KEPT = 2**27
"""Bytes of masks that are kept from call to call; larger ones are computed anew."""


@dataclass(frozen=True)
class Setting:
    """How a layer is set up on the bench."""

    channels: int
    """Whose fields add before the camera."""
    together: bool
    """Whether kernels share a mask and an exposure."""
    electrons: float
    """At the brightest pixel that is read."""
    peak: float = 0.0
    """Largest input that the modulator is set to; 0 before anything was seen."""


class Optics:
    """One layer in its place."""

    def __init__(
        self,
        layer: Layer,
        kernels: Tensor,
        setting: Setting,
        system: System,
        adjust: Adjust = as_it_is,
    ) -> None:
        """Take the parts.

        Args:
            layer: The node.
            kernels: (G, M, C, k, l).
            setting: How it is set up.
            system: The hardware.
            adjust: What differs from its conditions.
        """
        self.layer = layer
        self.setting = setting
        self._kernels = kernels
        self._system = system
        self._adjust = adjust
        self._masks: dict[tuple[int, int, int], Masks] = {}
        top, left, bottom, right = layer.pads
        self._window = Window((top, left, bottom, right), layer.strides)

    def run(self, x: Tensor, levels: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Compute the node.

        Args:
            x: Its input.
            levels: (chunks, G, M), the largest fields; None measures them.
            generator: Of all noise.

        Returns:
            Its output, without the bias.
        """
        answers = [answer for answer, _ in self._chunks(x, levels, generator)]
        return from_answers(self.layer, sum(answers[1:], answers[0]), tuple(x.shape))

    def measure(self, x: Tensor) -> tuple[float, Tensor]:
        """Find the largest input and the largest field of each kernel, (chunks, G, M), with room to spare."""
        levels = torch.stack([level for _, level in self._chunks(x, None, None)])
        if self.setting.together:
            levels = levels.amax().expand_as(levels)
        return self._peak(x) * HEADROOM, levels.contiguous()

    def _peak(self, x: Tensor) -> float:
        # Mathematics has no modulator that saturates.
        known = 0.0 if self._system.ideal else self.setting.peak
        return known or float(x.abs().max())

    def _chunks(
        self, x: Tensor, levels: Tensor | None, generator: torch.Generator | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Give answer and levels of every chunk of channels that add in the light."""
        layer = self.layer
        pictures = to_pictures(layer, x)
        size = (pictures.shape[-2], pictures.shape[-1])
        grouped = pictures.reshape(-1, layer.groups, layer.channels, *size)
        found: list[tuple[Tensor, Tensor]] = []
        for number, start in enumerate(range(0, layer.channels, self.setting.channels)):
            part = grouped[:, :, start : start + self.setting.channels].flatten(1, 2)
            result = optical_conv2d(
                part,
                self._mask(start, size),
                self._window,
                accumulate="optical",
                signs=signs_of(self._system, signed_input=layer.signed_input),
                peak=self._peak(x),
                level=None if levels is None else levels[number][None, :, :, None, None, None],
                generator=generator,
            )
            found.append((result.answer, _per_kernel(result.level, layer)))
        return found

    def _mask(self, start: int, size: tuple[int, int]) -> Masks:
        key = (start, *size)
        if key in self._masks:
            return self._masks[key]
        masks = self._prepare(start, size)
        if masks.transfer.numel() * masks.transfer.element_size() <= _LARGEST_KEPT:
            self._masks[key] = masks
        return masks

    def _prepare(self, start: int, size: tuple[int, int]) -> Masks:
        kernels = self._kernels[:, :, start : start + self.setting.channels].flatten(0, 1)
        geometry = Geometry(self._window, groups=self.layer.groups)
        conditions = self.conditions()
        masks = conv_masks(
            kernels,
            size,
            geometry,
            scheme=self._system.scheme,
            conditions=conditions,
            accumulate="optical",
        )
        if not self.setting.together:
            return masks
        return conv_masks(
            kernels,
            size,
            geometry,
            scheme=self._system.scheme,
            conditions=conditions,
            accumulate="optical",
            gain=masks.gain.amin().expand_as(masks.gain),
        )

    def conditions(self) -> Conditions:
        """Give what is simulated: the system's conditions with the light of this layer, adjusted."""
        known = conditions_of(self._system)
        return known if known == IDEAL else self._adjust(replace(known, electrons=self.setting.electrons))


def _per_kernel(level: Tensor, layer: Layer) -> Tensor:
    """Reduce levels of shape (..., G, M, F, 1, 1) to (G, M)."""
    flat = level.expand(*level.shape[:-5], layer.groups, layer.kernels, *level.shape[-3:])
    return flat.flatten(0, -6).amax((0, -1, -2, -3)) if flat.dim() > 5 else flat.amax((-1, -2, -3))
