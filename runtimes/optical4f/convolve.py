"""A convolution of many channels as optical passes: per pair of channels or per output.

    y[b, o] = sum_c x[b, c] * h[o, c]

``electronic`` sums what the camera read of each c: C reads, C noises. ``optical`` lets the fields of all c
add before one read (channel tiling, arXiv 2011.07391) [S], in a mask whose kernels share its light.

Axes: B batch, C input channels, O output channels, G groups, h w input, k l kernel, p q output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Generator, Tensor

from ...errors import UsageError
from .conditions import IDEAL, Conditions
from .encoding import Encoding
from .masks import Masks, prepare_masks
from .plane import WHOLE, Window, fast_plane
from .simulate import PassResult, Signs, simulate_pass

Accumulate = Literal["electronic", "optical"]


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
    strengths: Tensor | None = None,
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
        strengths: See ``prepare_masks``, with K = (G, O/G, C/G).

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
        strengths=strengths,
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
    generator: Generator | None = None,
    shortcut: bool = True,
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
        shortcut: See ``simulate_pass``.

    Returns:
        The convolution, of shape (B, O, p, q). ``frames`` counts those for one tile per frame and one kernel
        per mask: a schedule that tiles needs fewer.

    Raises:
        UsageError: If channels do not fit, or as ``simulate_pass``.
    """
    groups, _, channels = masks.kernel.shape[:3]
    if inputs.shape[1] != groups * channels:
        message = (
            f"expected {groups * channels} input channels, got {inputs.shape[1]}; give those of the masks"
        )
        raise UsageError(message)
    tiles = inputs.reshape(-1, groups, 1, channels, *inputs.shape[-2:])
    optical = accumulate == "optical"
    result = simulate_pass(
        tiles,
        masks,
        window=window,
        signs=signs,
        peak=peak,
        level=level,
        summed=-1 if optical else None,
        added=None if optical else -1,
        generator=generator,
        shortcut=shortcut,
    )
    frames = result.frames * (1 if optical else inputs.shape[1])
    return replace(result, answer=result.answer.flatten(1, 2), frames=frames)


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
