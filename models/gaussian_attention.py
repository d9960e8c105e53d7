"""Gaussian Adaptive Attention (arXiv 2401.11143): values weighted by how likely they are along an axis.

One head, with mean mu and unbiased variance v (+ eps) of x along the axis, K offsets d_i and widths c_i::

    p = prod_i exp(-(x - mu - d_i)^2 / (2 v c_i^2)) / sqrt(2 pi c_i^2)      a product, not a mixture
    w = p / max(sum p, eps)                                                 the sum runs along the axis
    y = x * w

The deploy form has one Gaussian whatever K is. With a_i = 1 / c_i^2 and, as the square is completed::

    A = sum a_i,   m = sum a_i d_i / A,   S = sum a_i (d_i - m)^2,   L = -1/2 sum log(2 pi c_i^2)
    log p = q + r,   q = -A (x - mu - m)^2 / (2 v),   r = L - S / (2 v)

A, m, S and L do not depend on the input, and r not on the position, so it leaves the quotient. With
M = max q and T = sum exp(q - M), the lower bound eps of the sum included::

    w = exp(q - M) min(1 / T, exp(M + r) / eps)

Nothing underflows on the way, which the product does in half precision.

``gaussian_nano`` is a network of our own around the published block.

Axis letters: B batch, C channels, H height, W width, N = H W positions, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .image_sets import FASHION_LABELS, FASHION_MNIST
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec

EPS = 1e-8
"""Added to the variance, and the lower bound of the sum of weights."""


class Gaussian(NamedTuple):
    """A product of Gaussians as one: entries of one shape that broadcasts against the input."""

    precision: Tensor
    """A above."""
    centre: Tensor
    """m above."""
    spread: Tensor
    """S above."""
    log_scale: Tensor
    """L above."""


def one_gaussian(offsets: Tensor, widths: Tensor) -> Gaussian:
    """Complete the square of K Gaussians.

    Computed in float64 and rounded once; S is a sum of squares, so nothing cancels.

    Args:
        offsets: (K,).
        widths: (K,), their signs do not matter.

    Returns:
        Four scalars in the dtype of ``offsets``.
    """
    d, c = offsets.detach().double(), widths.detach().double()
    a = c.pow(-2)
    centre = (a * d).sum() / a.sum()
    spread = (a * (d - centre).square()).sum()
    log_scale = -0.5 * (2 * math.pi * c.square()).log().sum()
    return Gaussian(*(t.to(offsets.dtype) for t in (a.sum(), centre, spread, log_scale)))


def moments(x: Tensor, axis: int, padding: float | None) -> tuple[Tensor, Tensor]:
    """Give mean and unbiased variance along an axis, which keeps size 1; padding counts as zeros."""
    seen = x if padding is None else torch.where(x == padding, 0, x)
    return seen.mean(axis, keepdim=True), seen.var(axis, keepdim=True) + EPS


def weigh(x: Tensor, weights: Tensor, padding: float | None) -> Tensor:
    """Multiply what is not padding; both tensors have one shape."""
    return x * weights if padding is None else torch.where(x == padding, x, x * weights)


class GaussianAttention(nn.Module):
    """One head: every entry weighted by a product of Gaussians along one axis."""

    def __init__(self, axis: int, gaussians: int, padding: float | None = None) -> None:
        super().__init__()
        self.axis, self.padding = axis, padding
        self.mean_offsets = nn.Parameter(torch.zeros(gaussians))
        self.c = nn.Parameter(torch.randn(gaussians).exp())

    def forward(self, x: Tensor) -> Tensor:
        """Any shape with the axis, to the same shape."""
        mean, variance = moments(x, self.axis, self.padding)
        product = torch.ones_like(x)
        for offset, width in zip(self.mean_offsets.unbind(), self.c.square().unbind(), strict=True):
            squared = (x - (mean + offset)).square() / variance
            product = product * (squared / (-2 * width)).exp() / (2 * math.pi * width).sqrt()
        total = product.sum(self.axis, keepdim=True).clamp(min=EPS)
        return weigh(x, product / total, self.padding)


class MultiHeadGaussianAttention(nn.Module):
    """Consecutive parts of the axis, each with a head of its own; the last part takes the rest."""

    def __init__(self, axis: int, heads: int, gaussians: int, padding: float | None = None) -> None:
        super().__init__()
        self.axis, self.padding = axis, padding
        one_each = (GaussianAttention(axis, gaussians, padding) for _ in range(heads))
        self.attention_heads = nn.ModuleList(one_each)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape with the axis, to the same shape."""
        parts = split_heads(x, self.axis, len(self.attention_heads))
        done = [head(part) for head, part in zip(self.attention_heads, parts, strict=True)]
        return torch.cat(done, dim=self.axis)

    def fused(self) -> FusedGaussianAttention:
        """Replace the product of every head by one Gaussian."""
        heads = [h for h in self.attention_heads if isinstance(h, GaussianAttention)]
        each = [one_gaussian(head.mean_offsets, head.c) for head in heads]
        joined = Gaussian(*(torch.stack(entries) for entries in zip(*each, strict=True)))
        return FusedGaussianAttention(self.axis, joined, self.padding).eval()


class FusedGaussianAttention(nn.Module):
    """One Gaussian for each head, and all heads at once when they are equally long."""

    def __init__(self, axis: int, gaussian: Gaussian, padding: float | None) -> None:
        super().__init__()
        self.axis, self.padding = axis, padding
        self.heads = len(gaussian.centre)
        for name, value in gaussian._asdict().items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape with the axis, to the same shape."""
        axis = self.axis % x.ndim
        if x.shape[axis] % self.heads:
            parts = split_heads(x, axis, self.heads)
            done = [self._one(part, axis, self._gaussian(i)) for i, part in enumerate(parts)]
            return torch.cat(done, dim=axis)
        own = (t.view(-1, *(1,) * (x.ndim - axis)) for t in self._gaussian(slice(None)))
        parts = torch.unflatten(x, axis, (self.heads, x.shape[axis] // self.heads))
        return self._one(parts, axis + 1, Gaussian(*own)).flatten(axis, axis + 1)

    def _gaussian(self, heads: int | slice) -> Gaussian:
        return Gaussian(*(self.get_buffer(name)[heads] for name in Gaussian._fields))

    def _one(self, x: Tensor, axis: int, own: Gaussian) -> Tensor:
        mean, variance = moments(x, axis, self.padding)
        q = (x - (mean + own.centre)).square() * (own.precision / (-2 * variance))
        rest = own.log_scale - own.spread / (2 * variance)
        peak = q.amax(axis, keepdim=True)
        relative = (q - peak).exp()
        # The sum of `relative` is at least 1; the second factor is the smaller when eps bounds the sum.
        share = torch.minimum(
            relative.sum(axis, keepdim=True).reciprocal(), (peak + rest - math.log(EPS)).exp()
        )
        return weigh(x, relative * share, self.padding)


class GaussianBlock(nn.Module):
    """Layers of Gaussian attention, each with a residual: x = x + layer(x)."""

    def __init__(
        self,
        axes: Sequence[int],
        heads: Sequence[int],
        gaussians: Sequence[int],
        padding: float | None = None,
    ) -> None:
        super().__init__()
        sizes = zip(axes, heads, gaussians, strict=True)
        self.layers = nn.ModuleList(MultiHeadGaussianAttention(*size, padding) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape with the axes, to the same shape."""
        for layer in self.layers:
            x = x + layer(x)
        return x


def split_heads(x: Tensor, axis: int, heads: int) -> tuple[Tensor, ...]:
    """Split into equal parts along an axis; the last takes the rest."""
    size = x.shape[axis] // heads
    return torch.split(x, [size] * (heads - 1) + [x.shape[axis] - size * (heads - 1)], dim=axis)


class Mlp(nn.Module):
    """Layer norm, then two 1x1 convolutions around a 3x3 depth-wise one."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return self.conv(self.norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class GaussianNet(nn.Module):
    """A convolutional stem, then blocks of Gaussian attention over rows and over channels, and an MLP."""

    def __init__(self, channels: int, dim: int, hidden: int, depth: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, dim // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(dim // 2),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(dim),
        )
        # On (B, H, W, C): along each column, along each row, along the channels of each position.
        self.gaussians = nn.ModuleList(GaussianBlock((1, 2, 3), (1, 1, 4), (5, 5, 5)) for _ in range(depth))
        self.mlps = nn.ModuleList(Mlp(dim, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        x = self.stem(x).permute(0, 2, 3, 1)
        for gaussian, mlp in zip(self.gaussians, self.mlps, strict=True):
            x = gaussian(x)
            x = x + mlp(x)
        return self.head(self.norm(x.mean(dim=(1, 2))))


def published_block() -> GaussianBlock:
    """Build the block of the public code's example: three layers of four heads of five Gaussians."""
    return GaussianBlock((2, 2, 2), (4, 4, 4), (5, 5, 5))


def nano() -> GaussianNet:
    """Build the small sibling for 28x28 pixels."""
    return GaussianNet(channels=1, dim=96, hidden=256, depth=4, classes=10)


PAPER = "Gaussian Adaptive Attention is All You Need, arXiv 2401.11143"


@register
def gaussian_block() -> ModelSpec:
    """The published block alone, 120 parameters, over 768 features of 196 positions."""
    return ModelSpec(
        name="gaussian_block",
        build=published_block,
        inputs=(TensorSpec("features", ("batch", 196, 768)),),
        outputs=("weighted",),
        paper=PAPER,
        licence="Apache-2.0",
        checked=EQUAL_OUTPUTS,
        params=120,
    )


@register
def gaussian_nano() -> ModelSpec:
    """A small network around the block for 28x28 grey images."""
    return ModelSpec(
        name="gaussian_nano",
        build=nano,
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the block of {PAPER}, in a network of our own",
        licence="Apache-2.0",
        checked="forward written from the formulae",
        weights=None,
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )
