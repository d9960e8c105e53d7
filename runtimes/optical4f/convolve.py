"""A convolution of many channels as optical passes: per pair of channels or per output.

    y[b, o] = sum_c x[b, c] * h[o, c]

``electronic`` sums what the camera read of each c: C reads, C noises. ``optical`` lets the fields of all c
add before one read (channel tiling, arXiv 2011.07391) [S], in a mask whose kernels share its light.

Axes: B batch, C input channels, O output channels, G groups, h w input, k l kernel, p q output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...errors import UsageError
from .conditions import IDEAL, Conditions
from .encoding import Encoding
from .masks import Masks, prepare_masks
from .plane import WHOLE, Window, fast_plane
from .simulate import PassResult, Signs, simulate_pass

Accumulate = Literal["electronic", "optical"]

_MOST_VALUES = 2**23
"""Field values that are propagated at a time: 64 MB of complex64."""
_OPTICAL, _ELECTRONIC = -4, -5
"""Axis of the output channels in a level, without and with an axis of input channels behind it."""


@dataclass(frozen=True)
class Geometry:
    """What a convolution does besides its weights."""

    window: Window = WHOLE
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


PLAIN = Geometry()
"""No padding, stride, dilation or groups."""


def conv_masks(
    weight: Tensor,
    tile: tuple[int, int],
    geometry: Geometry = PLAIN,
    *,
    scheme: str = "homodyne",
    encoding: Encoding = "complex",
    conditions: Conditions = IDEAL,
    accumulate: Accumulate = "electronic",
    gain: Tensor | None = None,
) -> Masks:
    """Prepare the masks of a convolution.

    Args:
        weight: Real. Shape (O, C/G, k, l).
        tile: h and w of the input.
        geometry: Padding, stride, dilation and groups.
        scheme: How signs are handled; a name in ``detection.SCHEMES``.
        encoding: How the mask modulates light.
        conditions: What is not ideal.
        accumulate: Where input channels add.
        gain: See ``prepare_masks``, with K = (G, O/G, C/G).

    Returns:
        Masks with K = (G, O/G, C/G).

    Raises:
        UsageError: If the groups do not divide the outputs.
    """
    if weight.shape[0] % geometry.groups:
        message = f"expected outputs in {geometry.groups} groups, got {weight.shape[0]}; correct the groups"
        raise UsageError(message)
    spread = dilate(weight, geometry.dilation)
    kernel = spread.reshape(geometry.groups, -1, *spread.shape[1:])
    return prepare_masks(
        kernel,
        fast_plane(geometry.window, tile),
        scheme=scheme,
        encoding=encoding,
        conditions=conditions,
        gain=gain,
        summed=-1 if accumulate == "optical" else None,
    )


def optical_conv2d(
    inputs: Tensor,
    masks: Masks,
    window: Window = WHOLE,
    *,
    accumulate: Accumulate = "electronic",
    signs: Signs | None = None,
    peak: float | None = None,
    level: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PassResult:
    """Convolve a batch.

    Args:
        inputs: Real. Shape (B, C, h, w).
        masks: From ``conv_masks``, for this size of input and this accumulation.
        window: Padding and stride, as in the geometry of the masks.
        accumulate: Where input channels add.
        signs: How negative inputs are shown; ``None`` refuses them.
        peak: Largest absolute input that the modulator is set to; ``None``: that of ``inputs``.
        level: ``level`` of an earlier result, which fixes references and exposures; ``None`` measures them.
        generator: Source of all noise.

    Returns:
        The convolution, of shape (B, O, p, q). ``frames`` counts those for one tile per frame and one kernel
        per mask: a schedule that tiles needs fewer.

    Raises:
        UsageError: If channels do not fit, or as ``simulate_pass``.
    """
    groups, outputs, channels = masks.kernel.shape[:3]
    if inputs.shape[1] != groups * channels:
        message = (
            f"expected {groups * channels} input channels, got {inputs.shape[1]}; give those of the masks"
        )
        raise UsageError(message)
    tiles = inputs.reshape(-1, groups, 1, channels, *inputs.shape[-2:])
    summed, axis = (-1, _OPTICAL) if accumulate == "optical" else (None, _ELECTRONIC)
    limit = peak if peak is not None else float(inputs.detach().abs().max())
    step = max(1, _MOST_VALUES // (tiles[:, :, :, :, 0, 0].numel() * masks.transfer[0, 0, 0].numel()))
    results = [
        simulate_pass(
            tiles,
            masks.outputs(start, step),
            window=window,
            signs=signs,
            peak=limit,
            level=None if level is None else level.narrow(axis, start, min(step, outputs - start)),
            summed=summed,
            generator=generator,
        )
        for start in range(0, outputs, step)
    ]
    return _joined(results, axis, inputs.shape[1] if summed is None else 1)


def _joined(parts: list[PassResult], axis: int, reads: int) -> PassResult:
    """Put chunks of output channels together, and sum the reads of each."""
    answers = [part.answer if axis == _OPTICAL else part.answer.sum(-3) for part in parts]
    electrons = [part.peak_electrons for part in parts if part.peak_electrons is not None]
    shares = [part.answer.numel() for part in parts]
    return PassResult(
        answer=torch.cat(answers, 2).flatten(1, 2),
        frames=parts[0].frames * reads,
        level=torch.cat([part.level for part in parts], axis),
        peak_electrons=max(electrons, default=None),
        saturated=sum(p.saturated * n for p, n in zip(parts, shares, strict=True)) / sum(shares),
        efficiency=sum(p.efficiency * n for p, n in zip(parts, shares, strict=True)) / sum(shares),
    )


def dilate(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """Put zeros between the taps of a kernel.

    Args:
        weight: Shape (..., k, l).
        dilation: Distances of its taps, down and right.

    Returns:
        Shape (..., (k - 1) d + 1, (l - 1) e + 1).
    """
    if dilation == (1, 1):
        return weight
    k, l = weight.shape[-2:]  # noqa: E741  # axis letters
    spread = weight.new_zeros((*weight.shape[:-2], (k - 1) * dilation[0] + 1, (l - 1) * dilation[1] + 1))
    spread[..., :: dilation[0], :: dilation[1]] = weight
    return spread
