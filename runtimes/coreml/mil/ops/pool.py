"""Pools in one to three spatial dimensions.

Axis letters: B batch, C channels; ``...`` the spatial axes. Averages count the padded zeros unless told
otherwise. With ``ceil_mode`` a last, incomplete window is added where its first value lies inside of the
padded input; what of it lies beyond the padding is counted by nobody.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signature import Ints
from .window import Pads, flat, pads

_MAX = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}
_AVERAGE = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints = (),
    pad: Ints = (),
    ceil_mode: bool = False,
) -> Tensor:
    """Take the largest value of every window of x (B, C, ...)."""
    strides = strides or (1,) * len(kernel_sizes)
    padding, beyond = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    padded = F.pad(x, flat(_sum(padding, beyond)), value=-math.inf)
    return _MAX[x.ndim](padded, kernel_sizes, strides)


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
    strides = strides or (1,) * len(kernel_sizes)
    padding, beyond = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    padded = F.pad(x, flat(_sum(padding, beyond)))
    means = _AVERAGE[x.ndim](padded, kernel_sizes, strides)
    if not any(map(any, beyond)) and not (exclude_padding_from_average and any(map(any, padding))):
        return means
    ones = torch.ones_like(x[:1, :1])
    if exclude_padding_from_average:
        counted = F.pad(ones, flat(_sum(padding, beyond)))
    else:
        counted = F.pad(F.pad(ones, flat(padding), value=1.0), flat(beyond))
    return means / _AVERAGE[x.ndim](counted, kernel_sizes, strides)


def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints = (),
    pad: Ints = (),
    ceil_mode: bool = False,
) -> Tensor:
    """Take the root of the sum of squares of every window of x (B, C, ...)."""
    strides = strides or (1,) * len(kernel_sizes)
    padding, beyond = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    padded = F.pad(x * x, flat(_sum(padding, beyond)))
    return (_AVERAGE[x.ndim](padded, kernel_sizes, strides) * math.prod(kernel_sizes)).sqrt()


def _windows(
    x: Tensor, kernel: Ints, pad_type: str, strides: Ints, pad: Ints, *, ceil_mode: bool
) -> tuple[Pads, Pads]:
    """Give the padding, and how far the last windows reach beyond it."""
    sizes = x.shape[2:]
    padding = pads(pad_type, pad or (0,) * 2 * len(sizes), sizes, kernel, strides, (1,) * len(sizes))
    if not ceil_mode:
        return padding, [(0, 0)] * len(sizes)
    beyond: Pads = []
    for size, k, stride, (before, after) in zip(sizes, kernel, strides, padding, strict=True):
        whole = size + before + after
        count = -(-(whole - k) // stride) + 1
        if (count - 1) * stride >= size + before and before + after > 0:
            count -= 1
        beyond.append((0, max(0, (count - 1) * stride + k - whole)))
    return padding, beyond


def _sum(first: Pads, second: Pads) -> Pads:
    return [(a + c, b + d) for (a, b), (c, d) in zip(first, second, strict=True)]
