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
is left out. The threshold t is a setting of the training, not a weight: 0.5 for ISIC 2018, 0 for ISIC 2017.

The decoder adds the encoder's inputs of each level, and the answer is the sigmoid of one channel per pixel.

Axis letters: B batch, C channels, H height, W width, L = H W pixels, G = 4 sequences, D channels of a head,
N states, R rank of the step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mhs_vm_deploy import FusedBlock, gated_sum
from .mhs_vm_routes import routes
from .registry import register
from .scan import initialise_steps, selective_scan
from .spec import ModelSpec, TensorSpec


@dataclass(frozen=True)
class MhsVmConfig:
    """Sizes of one member of the family."""

    patterns: str
    """One letter per head."""
    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    decoder_depths: tuple[int, ...] = (2, 2, 2, 1)
    size: int = 256
    """Pixels per side, a multiple of the patch and of 2 per level; the network takes no other size."""
    patch: int = 4
    states: int = 16
    threshold: float = 0.5
    channels: int = 3
    classes: int = 1

    def side(self, level: int) -> int:
        """Height and width of the map at a level."""
        return self.size // self.patch // 2**level


class Engine(nn.Module):
    """The state-space model of one head, with weights of its own for each sequence."""

    def __init__(self, dim: int, states: int) -> None:
        super().__init__()
        rank = math.ceil(dim / 16)
        self.x_proj_weight = nn.Parameter(torch.empty(4, rank + 2 * states, dim))
        steps = [nn.Linear(rank, dim) for _ in range(4)]
        for weight, linear in zip(self.x_proj_weight, steps, strict=True):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            initialise_steps(linear)
        self.dt_projs_weight = nn.Parameter(torch.stack([s.weight.detach() for s in steps]))
        self.dt_projs_bias = nn.Parameter(torch.stack([s.bias.detach() for s in steps]))
        self.A_logs = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(4 * dim, 1))
        self.Ds = nn.Parameter(torch.ones(4 * dim))
        self.sizes = (rank, states, states)

    def forward(self, u: Tensor) -> Tensor:
        """(L, B, G, D) to the same shape."""
        parts = torch.einsum("lbgd,ged->lbge", u, self.x_proj_weight)
        dt, b, c = torch.split(parts, list(self.sizes), dim=-1)
        dt = F.softplus(torch.einsum("lbgr,gdr->lbgd", dt, self.dt_projs_weight) + self.dt_projs_bias)
        a = -self.A_logs.exp().view(4, u.shape[-1], -1).mT
        return selective_scan(dt * u, dt, a, b, c) + self.Ds.view(4, -1) * u


class Scanning(nn.Module):
    """Reads a map along the four sequences of a pattern."""

    order: Tensor
    """(G, L): the pixel read at each step."""

    def __init__(self, pattern: str, side: int, engine: Engine) -> None:
        super().__init__()
        self.seq2seq_engine = engine
        self.register_buffer("order", routes(pattern, side, side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, D) to (L, B, G, D), with pixels in rows."""
        read = torch.stack([x[order] for order in self.order.unbind()], dim=2)
        y = self.seq2seq_engine(read).unbind(2)
        return torch.stack(
            [k[order.argsort()] for k, order in zip(y, self.order.unbind(), strict=True)], dim=2
        )


class ScanHead(nn.Module):
    """One head; the public checkpoints have its engine under two names."""

    def __init__(self, pattern: str, side: int, dim: int, states: int, threshold: float) -> None:
        super().__init__()
        self.mambaeng = Engine(dim, states)
        self.scanning = Scanning(pattern, side, self.mambaeng)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, D) to the same shape."""
        return gated_sum(self.scanning(x), 2, self.threshold)


class MultiHeadScan(nn.Module):
    """All heads, each in its own subspace; public checkpoints have the splitting weight under two names."""

    def __init__(self, dim: int, side: int, config: MhsVmConfig) -> None:
        super().__init__()
        self.patterns = config.patterns
        width = dim // len(config.patterns)
        self.x_ssproj = nn.Linear(dim, dim, bias=False)
        self.x_ssproj_W = self.x_ssproj.weight
        for pattern in config.patterns:
            head = ScanHead(pattern, side, width, config.states, config.threshold)
            self.add_module(f"scanhead_{pattern}", head)
        self.cat_norm = nn.LayerNorm(dim)
        self.y_proj = nn.Linear(dim, dim, bias=False)

    def heads(self) -> list[ScanHead]:
        """List the heads in the order of their channels."""
        return [cast("ScanHead", self.get_submodule(f"scanhead_{p}")) for p in self.patterns]

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, C) to the same shape."""
        heads = self.heads()
        parts = self.x_ssproj(x).chunk(len(heads), dim=-1)
        read = torch.cat([head(part) for head, part in zip(heads, parts, strict=True)], dim=-1)
        return self.y_proj(self.cat_norm(read))


class GatedScan(nn.Module):
    """Convolve, scan, and gate by the input."""

    def __init__(self, dim: int, side: int, config: MhsVmConfig) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.mhs = MultiHeadScan(dim, side, config)
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv2d(u.permute(0, 3, 1, 2))).flatten(2).permute(2, 0, 1)
        y = self.mhs(u).transpose(0, 1).reshape(x.shape)
        return self.out_norm(y) * F.silu(z)


class Block(nn.Module):
    """A gated scan behind a layer norm, with a residual."""

    def __init__(self, dim: int, side: int, config: MhsVmConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.self_attention = GatedScan(dim, side, config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return x + self.self_attention(self.ln_1(x))

    def fused(self) -> FusedBlock:
        """Run all sequences of all heads as one scan."""
        return FusedBlock(self.ln_1, self.self_attention).eval()


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
        checked="exact count, forward written from the formulae; threshold of the ISIC 2018 training",
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
        checked="forward written from the formulae",
        weights=None,
    )


DEEP = replace(FOUR, depths=(2, 2, 9, 2), decoder_depths=(2, 9, 2, 2))
"""The depths that the public code has by default; not a published result."""
