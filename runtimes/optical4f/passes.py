"""Carrying out one layer: pictures in, masks from a cache, answers out.

A layer is set up once, on real samples (``set_up``): the largest input that the modulator is set to, and the
largest answer of each kernel, which sets reference and exposure. Kernels that share a frame share one mask
and one exposure, so each is shown at the strength at which its largest answer is as bright as the others', as
far as its mask alone lets light pass, and electronics undo it::

    s_m = min(1 / max |H_m|, s / L_m)     L_m the largest answer of kernel m, s such that half are limited

With a smaller s a converter of few bits sees every kernel, with a larger one a mask of few bits shows it.

Kernels with a frame of their own each have their own light.

Axis letters as in ``lower``; F masks of one kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .camera import CAMERA_OFF
from .conditions import IDEAL, Conditions
from .convolve import Geometry, conv_masks, optical_conv2d
from .detection import Scheme, get_scheme
from .device_conditions import conditions_of, signs_of
from .lower import Layer, from_answers, to_pictures
from .masks import Masks
from .plane import Window
from .presets import System
from .vary import Adjust, as_it_is

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
    """Of a pixel at full scale."""
    available: float = math.inf
    """Electrons that the laser gives for the largest expected answer, the full well not considered."""
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
        self._masks: dict[tuple[int, int, int, bool], Masks] = {}
        top, left, bottom, right = layer.pads
        self._window = Window((top, left, bottom, right), layer.strides)

    def run(self, x: Tensor, levels: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Compute the node.

        Args:
            x: Its input.
            levels: (chunks, G, M, F), the largest answers; None measures them.
            generator: Of all noise.

        Returns:
            Its output, without the bias.
        """
        answers = [answer for answer, _ in self._chunks(x, levels, generator)]
        return from_answers(self.layer, sum(answers[1:], answers[0]), tuple(x.shape))

    def having(self, setting: Setting, *, ideal: bool = False) -> Optics:
        """Give the layer set up in another way, or as mathematics has it."""
        system = replace(self._system, ideal=self._system.ideal or ideal)
        return Optics(self.layer, self._kernels, setting, system, self._adjust)

    def largest(self, x: Tensor) -> tuple[Tensor, int]:
        """Find the largest answer of each mask to an input of 1, without what a layer is not set up for.

        Args:
            x: Input of the node on samples.

        Returns:
            Answers of shape (chunks, G, M, F), and how many of each kernel there were.
        """
        quiet = Optics(self.layer, self._kernels, self.setting, self._system, self._quiet)
        chunks = quiet._chunks(x, None, None)
        seen = chunks[0][0]
        return torch.stack([level for _, level in chunks]), seen.numel() // seen.shape[1]

    @property
    def full_well(self) -> float | None:
        """Electrons at which a pixel saturates; None where the layer is mathematics."""
        return self.conditions().full_well

    @property
    def coherent(self) -> bool:
        """Whether fields add, and not intensities."""
        return get_scheme(self._system.scheme).coherent

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
            largest = None if levels is None else levels[number]
            masks = self._mask(start, size, largest)
            gain = masks.gain[:, :, 0]  # channels that add share one
            result = optical_conv2d(
                part,
                masks,
                self._window,
                accumulate="optical",
                signs=signs_of(self._system, signed_input=layer.signed_input),
                peak=self._peak(x),
                level=None if largest is None else self._level(largest[..., None, None] * gain),
                generator=generator,
            )
            found.append((result.answer, _per_mask(result.level / gain, layer)))
        return found

    def strengths(self, number: int, size: tuple[int, int], levels: Tensor) -> Tensor:
        """Give how strongly kernels are shown, (G, M, F), the strongest 1.

        Args:
            number: Of the chunk of channels.
            size: Height and width of a picture.
            levels: (chunks, G, M, F), the largest answers.
        """
        gain = self._mask(number * self.setting.channels, size, levels[number]).gain[:, :, 0, :, 0, 0]
        return gain / gain.amax()

    def _level(self, largest: Tensor) -> Tensor:
        """Give what reference and exposure are set to, (G, M, F, 1, 1): kernels on one mask share them."""
        return largest.amax((0, 1), keepdim=True).expand_as(largest) if self.setting.together else largest

    def _mask(self, start: int, size: tuple[int, int], largest: Tensor | None) -> Masks:
        key = (start, *size, largest is None)
        if key in self._masks:
            return self._masks[key]
        masks = self._prepare(start, size, largest)
        if masks.transfer.numel() * masks.transfer.element_size() <= _LARGEST_KEPT:
            self._masks[key] = masks
        return masks

    def _prepare(self, start: int, size: tuple[int, int], largest: Tensor | None) -> Masks:
        scheme = get_scheme(self._system.scheme)
        shared = largest if self.setting.together else None
        return conv_masks(
            self._kernels[:, :, start : start + self.setting.channels].flatten(0, 1),
            size,
            Geometry(self._window, groups=self.layer.groups),
            scheme=scheme.name,
            conditions=self.conditions(),
            accumulate="optical",
            strengths=None if shared is None else _strengths(shared, scheme),
        )

    def conditions(self) -> Conditions:
        """Give what is simulated: the system's conditions with the light of this layer, adjusted."""
        known = conditions_of(self._system)
        return known if known == IDEAL else self._adjust(replace(known, electrons=self.setting.electrons))

    def _quiet(self, known: Conditions) -> Conditions:
        """Switch off the camera's noise and the rounding of the mask."""
        return replace(self._adjust(known), mask_bits=None, **CAMERA_OFF)


def _strengths(largest: Tensor, scheme: Scheme) -> Tensor:
    """Give the strengths at which kernels are equally bright, (G, M, F) to (G, M, 1, F, 1, 1).

    The mask is set by the field, whose square incoherent light shows.
    """
    shown = largest if scheme.coherent else largest.sqrt()
    return 1 / shown[:, :, None, :, None, None]


def _per_mask(level: Tensor, layer: Layer) -> Tensor:
    """Reduce levels of shape (..., G, M, F, 1, 1) to (G, M, F)."""
    flat = level.expand(*level.shape[:-5], layer.groups, layer.kernels, *level.shape[-3:])
    return flat.flatten(0, -6).amax(0)[..., 0, 0] if flat.dim() > 5 else flat[..., 0, 0]
