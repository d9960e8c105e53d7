"""An ideal pass of one small kernel over many tiles, computed as the correlation that it is.

A depth-wise convolution of torch, with tiles as channels, is faster than any transform up to 11 x 11; from
15 x 15 on it falls off its fast path [M].

Axes: T tiles, h w tile, k l kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from .conditions import IDEAL
from .masks import Masks
from .observe import Seen
from .plane import Window

_LARGEST = 11
"""Kernel up to which the direct way is faster."""


def fits(inputs: Tensor, masks: Masks) -> bool:
    """Say whether a pass is nothing but a correlation of a batch with one kernel.

    Args:
        inputs: Shape (*T, h, w).
        masks: Of the pass.
    """
    ideal = masks.conditions == IDEAL and masks.encoding == "complex"
    plain = masks.scheme.parts == 1 and masks.scheme.linear
    small = masks.kernel.dim() == 2 and max(masks.kernel.shape) <= _LARGEST
    return ideal and plain and small and inputs.dim() == 3


def correlate(inputs: Tensor, masks: Masks, window: Window, peak: float) -> Seen:
    """Correlate a batch with one kernel.

    Args:
        inputs: Shape (T, h, w).
        masks: Of one kernel, without non-idealities.
        window: Padding and stride.
        peak: Input that counts as fully bright, for the level.

    Returns:
        The correlation, and the field that it would have been.
    """
    window.read((inputs.shape[-2], inputs.shape[-1]), (masks.kernel.shape[0], masks.kernel.shape[1]))
    top, left, below, right = window.padding
    even = top == below and left == right
    tiles = inputs if even else pad(inputs, (left, right, top, below))
    weight = masks.kernel.expand(tiles.shape[0], 1, *masks.kernel.shape)
    answer = conv2d(
        tiles[None],
        weight,
        stride=window.stride,
        padding=(top, left) if even else 0,
        groups=tiles.shape[0],
    )[0]
    low, high = torch.aminmax(answer.detach())
    largest = torch.maximum(high, -low) * masks.gain / peak
    level = torch.where(largest > 0, largest, torch.ones_like(largest))
    return Seen(answer, level.unsqueeze(0), None, 0.0)
