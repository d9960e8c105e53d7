"""Pools in one to three spatial dimensions.

Axis letters: B batch, C channels; ``...`` the spatial axes. Averages count the padded zeros unless told
otherwise. With ``ceil_mode`` a last, incomplete window is added where its first value lies inside of the
padded input; what of it lies beyond the padding is counted by nobody.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signature import Ints
from .window import Pads, flat, pads

_MAX = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}
_AVERAGE = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}


class _Windows(NamedTuple):
    """Where the windows of a pool lie."""

    strides: Ints
    padding: Pads
    beyond: Pads
    """How far the last windows reach beyond the padding."""

    @property
    def around(self) -> list[int]:
        """Both together, as torch takes them."""
        return flat([(a + c, b + d) for (a, b), (c, d) in zip(self.padding, self.beyond, strict=True)])


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints = (),
    pad: Ints = (),
    ceil_mode: bool = False,
) -> Tensor:
    """Take the largest value of every window of x (B, C, ...)."""
    w = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    return _MAX[x.ndim](F.pad(x, w.around, value=-math.inf), kernel_sizes, w.strides)


def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints = (),
    pad: Ints = (),
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> Tensor:
    """Take the mean of every window of x (B, C, ...)."""
    w = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    means = _AVERAGE[x.ndim](F.pad(x, w.around), kernel_sizes, w.strides)
    if not any(map(any, w.beyond)) and not (exclude_padding_from_average and any(map(any, w.padding))):
        return means
    ones = torch.ones_like(x[:1, :1])
    if exclude_padding_from_average:
        counted = F.pad(ones, w.around)
    else:
        counted = F.pad(F.pad(ones, flat(w.padding), value=1.0), flat(w.beyond))
    return means / _AVERAGE[x.ndim](counted, kernel_sizes, w.strides)


def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints = (),
    pad: Ints = (),
    ceil_mode: bool = False,
) -> Tensor:
    """Take the root of the sum of squares of every window of x (B, C, ...)."""
    w = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    means = _AVERAGE[x.ndim](F.pad(x * x, w.around), kernel_sizes, w.strides)
    return (means * math.prod(kernel_sizes)).sqrt()


def _windows(
    x: Tensor, kernel: Ints, pad_type: str, strides: Ints, pad: Ints, *, ceil_mode: bool
) -> _Windows:
    """Work out where windows lie."""
    sizes, strides = x.shape[2:], strides or (1,) * len(kernel)
    padding = pads(pad_type, pad or (0,) * 2 * len(sizes), sizes, kernel, strides, (1,) * len(sizes))
    if not ceil_mode:
        return _Windows(strides, padding, [(0, 0)] * len(sizes))
    beyond: Pads = []
    for size, k, stride, (before, after) in zip(sizes, kernel, strides, padding, strict=True):
        whole = size + before + after
        count = -(-(whole - k) // stride) + 1
        if (count - 1) * stride >= size + before and before + after > 0:
            count -= 1
        beyond.append((0, max(0, (count - 1) * stride + k - whole)))
    return _Windows(strides, padding, beyond)
