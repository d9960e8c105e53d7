"""Every frame of one pass as a bench shows it: whole planes of input and mask, and how answers are read.

A schedule (``tiling``) lays many pictures and kernels on one plane. With x in [0, 1] on the input, M on the
mask and a reference r, a camera sees |F^-1{F{x} M} + r|^2, M = g conj(F{sum s h}) with |M| <= 1: kernels
that share a mask each have a strength s (``passes``), which electronics undo. The detection scheme says which
masks and references one pass takes (``detection``). A signed input is shown in one frame by a modulator of
phases, as amplitudes in [-1, 1], and else as its positive and its negative part.

Axes: Y X rows and columns of the plane, G P C M groups, pictures, channels and kernels of the pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from ...errors import UsageError
from ...export.artifact import Array
from .backend import Backend
from .detection import Scheme, get_scheme
from .fourier import centred, fft2, ifft2
from .lower import Layer, to_pictures
from .passes import Optics
from .program import Loaded
from .tiling import Layout, input_frame, read_frame, response_frame


@dataclass(frozen=True)
class Frame:
    """One frame to be shown."""

    part: str
    """``positive`` or ``negative`` part of the input, or the ``whole`` of it."""
    mask_number: int
    """Which mask of the detection scheme."""
    input: Array
    """(Y, X) float32, amplitude of 0 to 1; a negative one has a phase of half a wave."""
    mask: Array
    """(Y, X) complex64 of at most 1, in the order of the FFT."""
    reference: complex
    """Field added before the camera."""


@dataclass(frozen=True)
class Pass:
    """All frames of one pass, and what is needed to read them."""

    layer: Layer
    layout: Layout
    scheme: Scheme
    frames: tuple[Frame, ...]
    tiles: Tensor
    """(G, P, C, h, w), what is shown."""
    kernels: Tensor
    """(G, M, C, k, l), what it is correlated with."""
    peak: float
    """Input that full amplitude stands for."""
    gain: float
    """g of the masks."""
    strengths: Tensor
    """(G, M, F), s of each kernel in each mask."""
    level: float
    """Amplitude of the reference."""
    passes: int
    """That these inputs fill, this one among them."""

    def show(self, bench: Backend) -> list[Array]:
        """Show every frame and give the intensities (Y, X) that the bench read."""
        read = (
            bench.display(
                torch.from_numpy(frame.input),
                centred(torch.from_numpy(frame.mask)),
                reference=frame.reference,
            )
            for frame in self.frames
        )
        return [(counts * bench.light_per_count).numpy() for counts in read]

    def read(self, intensities: Sequence[Array]) -> Array:
        """Turn what the camera saw into answers.

        Args:
            intensities: (Y, X) for each frame, in their order.

        Returns:
            (G, P, M, rows out, columns out), sums over the channels of the pass.

        Raises:
            UsageError: If there is not one for each frame.
        """
        if len(intensities) != len(self.frames):
            message = f"expected {len(self.frames)} camera frames, got {len(intensities)}; show every frame"
            raise UsageError(message)
        signs = len(dict.fromkeys(frame.part for frame in self.frames))
        shape = (signs, self.scheme.parts, len(self.scheme.references))
        seen = torch.from_numpy(np.stack(intensities)).reshape(*shape, *intensities[0].shape)
        level = torch.full((1, 1, 1), self.level, dtype=seen.dtype)
        fields = self.scheme.decode(seen, level)
        total = fields[0] - fields[1] if signs == 2 else fields[0]
        groups, pictures = self.tiles.shape[:2]
        masks = [read_frame(self.layout, one, groups, pictures, self.kernels.shape[1]) for one in total]
        answers = torch.stack(masks, -3) / self.strengths[:, None, :, :, None, None]
        return (self.scheme.join(answers) * (self.peak / self.gain)).numpy()

    def wanted(self) -> Array:
        """Give the same answers by digital convolution."""
        top, left, bottom, right = self.layer.pads
        padded = pad(self.tiles, (left, right, top, bottom))
        return torch.stack([conv2d(x, k) for x, k in zip(padded, self.kernels, strict=True)]).numpy()


def pass_frames(loaded: Loaded, step_number: int, x: Array, number: int = 0) -> Pass:
    """Lay out one pass.

    Args:
        loaded: The program.
        step_number: Which optical layer, from 0.
        x: Input of that layer, as the graph has it.
        number: Which pass, from 0: groups change slowest, then channels, kernels and pictures.

    Returns:
        Its frames.

    Raises:
        UsageError: If the layer has no such pass for this input, or shows signs in a way no camera can read.
    """
    step, system = loaded.program.steps[step_number], loaded.program.system
    layer, layout, scheme = step.layer, step.plan.layout, get_scheme(system.scheme)
    if not scheme.coherent:
        message = (
            f"expected a coherent detection scheme, got {scheme.name}; frames of intensities are not laid out"
        )
        raise UsageError(message)
    pictures = to_pictures(layer, torch.from_numpy(np.ascontiguousarray(x, np.float32)))
    size = (pictures.shape[-2], pictures.shape[-1])
    tiles = pictures.reshape(-1, layer.groups, layer.channels, *size).transpose(0, 1)
    kernels = torch.from_numpy(loaded.arrays[f"{step_number}.kernels"])
    counts = _counts(layout, tiles, kernels)
    parts = _slices(layout, counts, number)
    chunk = parts[1].start // layout.channels
    levels = torch.from_numpy(loaded.arrays[f"{step_number}.levels"])
    ideal = Optics(layer, kernels, step.setting, replace(system, ideal=True))
    strengths = ideal.strengths(chunk, size, levels)[parts[0], parts[2]]
    tiles, kernels = tiles[parts[0], parts[3], parts[1]], kernels[parts[0], parts[2], parts[1]]
    peak = step.setting.peak or float(x.max())
    shown = _signed_parts(tiles / peak, signed=layer.signed_input, phase=system.signs == "phase")
    plane = (system.height, system.width)
    split = scheme.split(kernels.flatten(0, 2)).reshape(*kernels.shape[:3], -1, *kernels.shape[3:])
    masks, gain = _masks(layout, split * strengths[:, :, None, :, None, None], plane)
    inputs = {part: input_frame(layout, half.clamp(-1, 1), *plane) for part, half in shown.items()}
    level = _level(inputs.values(), masks)
    frames = tuple(
        Frame(part, m, amplitude.numpy(), masks[m].numpy(), complex(reference) * level)
        for (part, amplitude), m, reference in product(inputs.items(), range(len(masks)), scheme.references)
    )
    passes = math.prod(counts)
    return Pass(layer, layout, scheme, frames, tiles, kernels, peak, gain, strengths, level, passes)


def _counts(layout: Layout, tiles: Tensor, kernels: Tensor) -> tuple[int, int, int, int]:
    """Give how many passes groups, channels, kernels and pictures take."""
    return (
        -(-tiles.shape[0] // layout.groups),
        -(-kernels.shape[2] // layout.channels),
        -(-kernels.shape[1] // layout.kernels),
        -(-tiles.shape[1] // layout.images),
    )


def _slices(
    layout: Layout, counts: tuple[int, int, int, int], number: int
) -> tuple[slice, slice, slice, slice]:
    """Give the groups, channels, kernels and pictures of a pass."""
    room = (layout.groups, layout.channels, layout.kernels, layout.images)
    total = math.prod(counts)
    if not 0 <= number < total:
        message = f"expected a pass from 0 to {total - 1}, got {number}; choose one of those"
        raise UsageError(message)
    places = np.unravel_index(number, counts)
    first, second, third, fourth = (
        slice(int(place) * space, (int(place) + 1) * space) for place, space in zip(places, room, strict=True)
    )
    return first, second, third, fourth


def _signed_parts(tiles: Tensor, *, signed: bool, phase: bool) -> dict[str, Tensor]:
    if not signed:
        return {"positive": tiles}
    if phase:
        return {"whole": tiles}
    return {"positive": tiles.clamp(min=0), "negative": (-tiles).clamp(min=0)}


def _masks(layout: Layout, parts: Tensor, size: tuple[int, int]) -> tuple[list[Tensor], float]:
    """Transform the kernels of each mask, (G, M, C, F, k, l); one scale, at which no mask amplifies."""
    wanted = [
        fft2(response_frame(layout, parts[:, :, :, f], *size)).conj().resolve_conj()
        for f in range(parts.shape[3])
    ]
    largest = max(float(mask.abs().max()) for mask in wanted)
    gain = 1 / largest if largest else 1.0
    return [mask * gain for mask in wanted], gain


def _level(inputs: Iterable[Tensor], masks: Sequence[Tensor]) -> float:
    """Give the largest field at the camera, which sets the reference."""
    fields = (ifft2(fft2(plane) * mask) for plane in inputs for mask in masks)
    return max(float(field.abs().max()) for field in fields) or 1.0
