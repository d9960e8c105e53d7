"""Normalizations.

Axis letters: B batch, C channels; ``...`` the spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signature import Ints


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalize every channel of x (B, C, ...) by given statistics of shape (C,)."""
    shape = (-1, *([1] * (x.ndim - 2)))
    scale = torch.rsqrt(variance + epsilon) * (1 if gamma is None else gamma)
    shifted = (x - mean.reshape(shape)) * scale.reshape(shape)
    return shifted if beta is None else shifted + beta.reshape(shape)


def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Normalize every channel of every sample of x (B, C, ...) over its spatial axes."""
    shape = (-1, *([1] * (x.ndim - 2)))
    normal = _standard(x, tuple(range(2, x.ndim)), epsilon)
    normal = normal if gamma is None else normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def layer_norm(
    x: Tensor,
    axes: Ints = (),
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalize over some axes; gamma and beta have the sizes of these axes, in the order of x."""
    chosen = sorted({axis % x.ndim for axis in axes}) or list(range(x.ndim))
    if chosen == list(range(x.ndim - len(chosen), x.ndim)):
        return F.layer_norm(x, [x.shape[axis] for axis in chosen], gamma, beta, epsilon)
    shape = [x.shape[axis] if axis in chosen else 1 for axis in range(x.ndim)]
    normal = _standard(x, tuple(chosen), epsilon)
    normal = normal if gamma is None else normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Divide by the root of the sum of squares over the last three axes."""
    return x / torch.sqrt((x * x).sum(dim=(-3, -2, -1), keepdim=True) + epsilon)


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide every channel of x (B, C, ...) by (k + alpha / size * squares of its neighbours) ^ beta."""
    before = (size - 1) // 2
    squares = F.pad(x.flatten(2).square().transpose(1, 2), (before, size - 1 - before))
    sums = squares.unfold(-1, size, 1).sum(-1).transpose(1, 2).reshape(x.shape)
    return x / (k + alpha / size * sums) ** beta


def _standard(x: Tensor, axes: Ints, epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)
