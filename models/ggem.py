"""GGeM: Group Generalized Mean Pooling for Vision Transformer (arXiv 2212.04114), a head for any backbone.

Channels in G equal groups, one trained exponent p for each, N tokens::

    f_d = (1/N sum_n max(x_nd, eps)^p)^(1/p)      p = 1: mean of what is positive, p to infinity: maximum

The deploy form stays finite whatever p is, in half precision too: with l = log max(x, eps) and M = max_n l,

    f_d = exp(M + log(1/N sum_n exp(p (l_n - M))) / p)

p and 1/p are constants of it, one for each channel.

Only the abstract was at hand and no public code was found. The number of groups (attention heads), p = 3 at
the start and eps = 1e-6 are ours; a negative value counts as eps; `attach.Attached` skips class tokens.

Axis letters: B batch, N tokens, D width of a token, G groups, K classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import BuildError
from .attach import Attached
from .image_sets import FASHION_LABELS, FASHION_MNIST
from .registry import register
from .small_trunk import small_trunk
from .spec import ModelSpec, TensorSpec

START = 3.0
"""Exponent before training."""


class Ggem(nn.Module):
    """Generalized mean over tokens with one exponent for each group of channels."""

    def __init__(self, dim: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__()
        if dim % groups:
            message = f"expected groups that divide the width {dim}, got {groups}; choose another number"
            raise BuildError(message)
        self.p = nn.Parameter(torch.full((groups,), START))
        self.dim, self.eps = dim, eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D)."""
        p = self.p.repeat_interleave(self.dim // len(self.p))
        return x.clamp(min=self.eps).pow(p).mean(dim=1).pow(1 / p)

    def fused(self) -> FusedGgem:
        """Spread the exponents over the channels, and compute with logarithms."""
        return FusedGgem(self.p.detach().repeat_interleave(self.dim // len(self.p)), self.eps).eval()


class FusedGgem(nn.Module):
    """The same mean relative to the largest value, so that no power overflows."""

    p: Tensor
    inverse: Tensor

    def __init__(self, p: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("p", p)
        self.register_buffer("inverse", p.double().reciprocal().to(p.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D)."""
        logs = x.clamp(min=self.eps).log()
        largest = logs.amax(dim=1, keepdim=True)
        mean = ((logs - largest) * self.p).exp().mean(dim=1)
        return (largest.squeeze(1) + mean.log() * self.inverse).exp()


class GgemHead(nn.Sequential):
    """Pooling and a linear classifier."""

    def __init__(self, dim: int, *, groups: int, classes: int) -> None:
        super().__init__(Ggem(dim, groups), nn.Linear(dim, classes))


def nano() -> Attached:
    """Build the small sibling for 28x28 pixels."""
    return Attached(small_trunk(1, 128, depth=3), GgemHead(128, groups=8, classes=10), layout="maps")


PAPER = "Group Generalized Mean Pooling for Vision Transformer, arXiv 2212.04114"
CHECKED = "formula; groups, first exponent and lower bound are ours"


@register
def ggem_b() -> ModelSpec:
    """A head for 768 wide tokens of 12 groups and 1000 classes."""
    return ModelSpec(
        name="ggem_b",
        build=partial(GgemHead, 768, groups=12, classes=1000),
        inputs=(TensorSpec("tokens", ("batch", 196, 768)),),
        paper=PAPER,
        checked=CHECKED,
    )


@register
def ggem_nano() -> ModelSpec:
    """The head on a small convolutional backbone for 28x28 grey images."""
    return ModelSpec(
        name="ggem_nano",
        build=nano,
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the head of {PAPER}, on a backbone of our own",
        checked=f"{CHECKED}; scored on Fashion-MNIST",
        weights="ggem_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )
