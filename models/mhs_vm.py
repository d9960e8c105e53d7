"""MHS-VM: Multi-Head Scanning in Parallel Subspaces for Vision Mamba (Ji, arXiv 2406.05992).

A segmentation U-net of visual state-space blocks. A block gates what its heads have read off the map::

    x, z = W_in LN(v),      x = SiLU(DW3(x)),      block(v) = v + LN(MHS(x)) * SiLU(z)

Multi-head scan: W_ss x is split into heads of d channels. Each head reads the map in its own pattern, C, X, S
or Z, along four sequences (two routes, and each backwards; see ``mhs_vm_routes``) with weights of their own::

    r, b, c = W_k u_k,   dt = softplus(V_k r + bias_k)             u_k: the head's channels along sequence k
    y_k = scan(dt u_k, dt, -exp(A_k), b, c) + D_k u_k              brought back into place
    head = (sum of y_k) * ReLU(cv - t),     cv = std(y_k) / (mean(y_k - min y_k) + 1e-5)
    MHS = W_y LN([heads])

std with the divisor 3, all over k. The gate is the coefficient of variation: what all four sequences agree on
is left out. Where they nearly agree, it divides what rounding left of their differences, so that answers in
float32 may be 1e-2 from those in float64, the authors' as ours. The threshold t is a setting of the
training, not a weight: 0.5 for ISIC 2018, 0 for ISIC 2017.

The decoder adds the encoder's inputs of each level, and the answer is the sigmoid of one channel per pixel.

Axis letters: B batch, C channels, H height, W width, L = H W pixels, G = 4 sequences, D channels of a head,
N states, R rank of the step size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from .image_sets import CIFAR10
from .mhs_vm_blocks import Block, MhsVmConfig
from .registry import register
from .spec import ModelSpec, TensorSpec


class Embedding(nn.Module):
    """Patches, normed."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, H', W', C')."""
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Merging(nn.Module):
    """Four neighbours become one pixel of twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, 2 C)."""
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Expanding(nn.Module):
    """One pixel becomes s x s of fewer channels."""

    def __init__(self, dim: int, scale: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, scale * scale * out, bias=False)
        self.norm = nn.LayerNorm(out)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, s H, s W, C')."""
        _, height, width, _ = x.shape
        parts = self.expand(x).reshape(
            -1, height, width, self.scale, self.scale, self.norm.normalized_shape[0]
        )
        wide = parts.permute(0, 1, 3, 2, 4, 5).reshape(
            -1, height * self.scale, width * self.scale, parts.shape[-1]
        )
        return self.norm(wide)


class Stage(nn.Module):
    """The blocks of one level; encoder stages end in a merging, decoder stages begin with an expanding."""

    def __init__(
        self, blocks: list[Block], *, merge: Merging | None = None, expand: Expanding | None = None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if merge is not None:
            self.downsample = merge
        if expand is not None:
            self.upsample = expand
        self.ends = (expand is not None, merge is not None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the next level's shape."""
        x = self.upsample(x) if self.ends[0] else x
        for block in self.blocks:
            x = block(x)
        return self.downsample(x) if self.ends[1] else x


class UNet(nn.Module):
    """Encoder, decoder, and one score per pixel and class."""

    def __init__(self, config: MhsVmConfig) -> None:
        super().__init__()
        dims, last = config.dims, len(config.dims) - 1
        self.patch_embed = Embedding(config.channels, dims[0], config.patch)
        self.layers = nn.ModuleList(
            Stage(_blocks(config, i, config.depths[i]), merge=Merging(dims[i]) if i < last else None)
            for i in range(len(dims))
        )
        self.layers_up = nn.ModuleList(
            Stage(
                _blocks(config, last - i, config.decoder_depths[i]),
                expand=Expanding(dims[last - i + 1], 2, dims[last - i]) if i else None,
            )
            for i in range(len(dims))
        )
        out = dims[0] // config.patch
        self.final_up = Expanding(dims[0], config.patch, out)
        self.final_conv = nn.Conv2d(out, config.classes, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K, H, W) scores."""
        x, skips = self.patch_embed(x), list[Tensor]()
        for layer in self.layers:
            skips.append(x)
            x = layer(x)
        for i, layer in enumerate(self.layers_up):
            x = layer(x + skips[-i] if i else x)
        return self.final_conv(self.final_up(x).permute(0, 3, 1, 2))


class MhsVm(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: MhsVmConfig) -> None:
        super().__init__()
        self.vmunet = UNet(config)
        self.finish: Callable[[Tensor], Tensor] = torch.sigmoid if config.classes == 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, 1, H, W) probabilities, or (B, K, H, W) logits of several classes."""
        return self.finish(self.vmunet(x))


def _blocks(config: MhsVmConfig, level: int, depth: int) -> list[Block]:
    return [Block(config.dims[level], config.side(level), config) for _ in range(depth)]


def _initialise(module: nn.Module) -> None:
    """Truncated normal for linear layers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)


THREE = MhsVmConfig("CXS")
FOUR = MhsVmConfig("CXSZ")
NANO = MhsVmConfig("CXSZ", (24, 48, 96), (1, 1, 1), (1, 1, 1), size=32, patch=2, states=8)

PAPER = "MHS-VM: Multi-Head Scanning in Parallel Subspaces for Vision Mamba, arXiv 2406.05992"


def _published(name: str, config: MhsVmConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(MhsVm, config),
        inputs=(TensorSpec("image", ("batch", 3, 256, 256)),),
        outputs=("mask",),
        paper=PAPER,
        licence="Apache-2.0",
        checked=(
            "exact count; outputs equal to the authors' code with randomised weights, in float64 on 64x64 "
            "pixels, and routes on 256x256; threshold of the ISIC 2018 training"
        ),
        params=params,
    )


@register
def mhs_vm_3() -> ModelSpec:
    """MHS-VM with three heads (C, X, S), 17.4 M parameters."""
    return _published("mhs_vm_3", THREE, 17_386_153)


@register
def mhs_vm_4() -> ModelSpec:
    """MHS-VM with four heads (C, X, S, Z), 17.3 M parameters."""
    return _published("mhs_vm_4", FOUR, 17_257_129)


@register
def mhs_vm_nano() -> ModelSpec:
    """A small sibling with three levels for 32x32 images."""
    return ModelSpec(
        name="mhs_vm_nano",
        build=partial(MhsVm, NANO),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        outputs=("mask",),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="Apache-2.0",
        checked="forward written from the formulae; scored by the masks of items pasted over CIFAR-10",
        weights="mhs_vm_nano.safetensors",
        preprocess=CIFAR10,
    )


DEEP = replace(FOUR, depths=(2, 2, 9, 2), decoder_depths=(2, 9, 2, 2))
"""The depths that the public code has by default; not a published result."""
