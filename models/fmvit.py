"""FMViT-style hybrid, unverified: the parts named in the abstract of arXiv 2311.05707, in a net of our own.

Only the abstract of FMViT (A multiple-frequency mixing Vision Transformer) was at hand and its code was never
published, so sizes, order and details are ours. The named parts:

Convolutional multi-group re-parameterization: parallel convolutions of different kernels and group counts,
each with its batch norm, and the batch norm of the input where shapes allow::

    M(x) = sum_i BN_i(conv_i(x)) + BN_0(x)           deploys as one convolution

Lightweight attention (RLMHSA): keys and values of averaged squares P; two linear steps in a row are trained::

    x' = M(x),   softmax(M_q(x')^T M_k(P x') / sqrt(d)) M_v(P x')

and deployed as one, since P commutes with 1x1 convolutions: q = (s Wq W') x, k = (Wk W') P x, and so v.

Multi-frequency mixing: low frequencies by that attention, high ones by convolutions of kernels 3 and 5::

    x = x + M_p [attention(x), M_35(ReLU(M(x)))],   x = x + MLP(x)

Convolutional fusion block (CFB): x = M_3(x) with its identity branch, x = x + MLP(x).
MLP(x) = M_2 ReLU(M_1 x).

Axis letters: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from .fmvit_deploy import FusedAttention, FusedFusion, FusedHead, FusedMixing, attend, pooled
from .fuse import Kernel, add_kernels, affine_of, chain, identity_kernel, scale_outputs
from .fuse_modules import conv_like, fold_conv_norm, fold_norm_linear, kernel_of, scale_conv
from .image_sets import CIFAR10, CIFAR10_LABELS, FASHION_LABELS, FASHION_MNIST, IMAGENET
from .registry import register
from .spec import ModelSpec, TensorSpec

Branch = tuple[int, int]
"""Kernel size and number of groups."""

DENSE: tuple[Branch, ...] = ((1, 1), (1, 2))


@dataclass(frozen=True)
class FmvitConfig:
    """Sizes of one network; sequences have one entry per stage, and all but the first halve the map."""

    dims: tuple[int, ...]
    fusions: tuple[int, ...]
    """Convolutional fusion blocks."""
    mixings: tuple[int, ...]
    """Multi-frequency mixing blocks, behind the fusion blocks."""
    pools: tuple[int, ...]
    """Side of the squares that keys and values are averaged over."""
    stem_strides: tuple[int, int] = (2, 2)
    group_width: int = 32
    """Channels of a group of the 3x3 convolutions; a second branch has groups half as wide."""
    head_width: int = 32
    ratio: int = 3
    channels: int = 3
    classes: int = 1000


class MultiGroup(nn.Module):
    """A sum of convolutions, each with a batch norm, and a batch norm of the input where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, branches: tuple[Branch, ...] = DENSE, stride: int = 1
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, k, stride, k // 2, groups=g, bias=False) for k, g in branches
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in branches)
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        total = sum(norm(conv(x)) for conv, norm in zip(self.convs, self.norms, strict=True))
        assert isinstance(total, Tensor)
        return total if self.identity is None else total + self.identity(x)

    def fused(self) -> nn.Conv2d:
        """Fold every batch norm, and add the kernels up."""
        folded: list[nn.Conv2d] = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            folded.append(fold_conv_norm(conv, norm))
        kernels = [kernel_of(conv) for conv in folded]
        if self.identity is not None:
            kernels.append(_identity(self.identity, groups=max(k.groups for k in kernels)))
        widest = max(folded, key=lambda conv: conv.kernel_size[0])
        return conv_like(widest, add_kernels(kernels))


def _identity(norm: nn.BatchNorm2d, groups: int) -> Kernel:
    """Write a batch norm as a 1x1 convolution."""
    one = identity_kernel(norm.num_features, (1, 1), groups=groups, like=norm.weight)
    return Kernel(*scale_outputs(one.weight, one.bias, *affine_of(norm)), one.groups)


def grouped(dim: int, width: int, kernels: tuple[int, ...]) -> tuple[Branch, ...]:
    """Give every kernel a branch of groups of this width, the first one also of half the width."""
    groups = max(dim // width, 1)
    return (*((k, groups) for k in kernels), (kernels[0], 2 * groups))


class Mlp(nn.Module):
    """Two pointwise layers."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = MultiGroup(dim, hidden)
        self.act = nn.ReLU()
        self.fc2 = MultiGroup(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))

    def fused(self) -> nn.Sequential:
        """Fold both layers."""
        return nn.Sequential(self.fc1.fused(), nn.ReLU(), self.fc2.fused()).eval()


class LightAttention(nn.Module):
    """Attention to averaged squares."""

    def __init__(self, dim: int, inner: int, heads: int, pool: int) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.scale = (inner // heads) ** -0.5
        self.narrow = MultiGroup(dim, inner)
        self.q = MultiGroup(inner, inner)
        self.kv = MultiGroup(inner, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        x = self.narrow(x)
        k, v = self.kv(pooled(x, self.pool)).chunk(2, dim=1)
        return attend(self.q(x) * self.scale, k, v, self.heads)

    def fused(self) -> FusedAttention:
        """Chain the two steps, and fold the scale into the queries."""
        narrow, q, kv = self.narrow.fused(), self.q.fused(), self.kv.fused()
        q = scale_conv(q, torch.full((q.out_channels,), self.scale, dtype=torch.float64))
        joined = (conv_like(conv, chain(kernel_of(narrow), kernel_of(conv))) for conv in (q, kv))
        return FusedAttention(*joined, heads=self.heads, pool=self.pool).eval()


class MixingBlock(nn.Module):
    """Multi-frequency mixing: attention beside convolution, then an MLP."""

    def __init__(self, config: FmvitConfig, stage: int) -> None:
        super().__init__()
        dim = config.dims[stage]
        half = dim // 2
        self.low = LightAttention(dim, half, half // config.head_width, config.pools[stage])
        self.high = nn.Sequential(
            MultiGroup(dim, half),
            nn.ReLU(),
            MultiGroup(half, half, grouped(half, config.group_width, (3, 5))),
        )
        self.proj = MultiGroup(2 * half, dim)
        self.mlp = Mlp(dim, config.ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = x + self.proj(torch.cat((self.low(x), self.high(x)), dim=1))
        return x + self.mlp(x)

    def fused(self) -> FusedMixing:
        """Fold every part."""
        first, act, second = self.high
        assert isinstance(first, MultiGroup)
        assert isinstance(second, MultiGroup)
        high = nn.Sequential(first.fused(), deepcopy(act), second.fused())
        return FusedMixing(self.low.fused(), high, self.proj.fused(), self.mlp.fused()).eval()


class FusionBlock(nn.Module):
    """Convolutional fusion block (CFB)."""

    def __init__(self, config: FmvitConfig, stage: int) -> None:
        super().__init__()
        dim = config.dims[stage]
        self.mixer = MultiGroup(dim, dim, grouped(dim, config.group_width, (3, 1)))
        self.mlp = Mlp(dim, config.ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.mixer(x)
        return x + self.mlp(x)

    def fused(self) -> FusedFusion:
        """Fold both parts."""
        return FusedFusion(self.mixer.fused(), self.mlp.fused()).eval()


class Head(nn.Module):
    """Mean over positions, batch norm, classifier."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.linear = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K)."""
        return self.linear(self.norm(x.mean(dim=(2, 3))))

    def fused(self) -> FusedHead:
        """Fold the batch norm into the classifier."""
        return FusedHead(fold_norm_linear(self.norm, self.linear))


def fmvit(config: FmvitConfig) -> Fmvit:
    """Build the network stage by stage."""
    strides = config.stem_strides
    first = config.dims[0]
    parts: list[nn.Module] = [
        MultiGroup(config.channels, first // 2, ((3, 1), (1, 1)), strides[0]),
        nn.ReLU(),
        MultiGroup(first // 2, first, ((3, 1), (1, 1)), strides[1]),
    ]
    for stage, dim in enumerate(config.dims):
        if stage > 0:
            parts.append(MultiGroup(config.dims[stage - 1], dim, ((3, 1), (1, 1)), 2))
        parts += [FusionBlock(config, stage) for _ in range(config.fusions[stage])]
        parts += [MixingBlock(config, stage) for _ in range(config.mixings[stage])]
    return Fmvit(*parts, Head(config.dims[-1], config.classes))


class Fmvit(nn.Sequential):
    """The network: (B, C, H, W) pixels to (B, K) logits."""

    def fused(self) -> nn.Sequential:
        """Fold every part."""
        folded = (p.fused() if isinstance(p, FOLDING) else deepcopy(p) for p in self)
        return nn.Sequential(*folded).eval()


FOLDING = (MultiGroup, FusionBlock, MixingBlock, Head)

STYLE = FmvitConfig((64, 128, 256, 512), (2, 2, 4, 1), (0, 1, 2, 1), (8, 4, 2, 1))
NANO = FmvitConfig(
    (32, 64, 96),
    (1, 1, 1),
    (0, 1, 1),
    (1, 1, 1),
    stem_strides=(2, 1),
    group_width=16,
    head_width=16,
    ratio=2,
    channels=1,
    classes=10,
)
CIFAR_NANO = replace(NANO, channels=3)

PAPER = "the parts named in the abstract of FMViT, arXiv 2311.05707"
CHECKED = "FMViT-style, unverified: no public code, no published sizes; train and deploy forms are equal"


@register
def fmvit_style() -> ModelSpec:
    """The named parts in a network for 224x224 pixels, at sizes of our own."""
    return ModelSpec(
        name="fmvit_style",
        build=partial(fmvit, STYLE),
        inputs=(TensorSpec("image", ("batch", 3, 224, 224)),),
        paper=PAPER,
        checked=CHECKED,
        preprocess=IMAGENET,
    )


@register
def fmvit_nano() -> ModelSpec:
    """The named parts in a small network for 28x28 grey images."""
    return ModelSpec(
        name="fmvit_nano",
        build=partial(fmvit, NANO),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=PAPER,
        checked=f"{CHECKED}; scored on Fashion-MNIST",
        weights="fmvit_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def fmvit_cifar_nano() -> ModelSpec:
    """The named parts in a small network for 32x32 coloured images of CIFAR-10."""
    return ModelSpec(
        name="fmvit_cifar_nano",
        build=partial(fmvit, CIFAR_NANO),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        paper=PAPER,
        checked=f"{CHECKED}; scored on CIFAR-10",
        weights="fmvit_cifar_nano.safetensors",
        preprocess=CIFAR10,
        labels=CIFAR10_LABELS,
    )
