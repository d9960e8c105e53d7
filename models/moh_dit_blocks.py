"""The blocks of MoH-DiT as they are trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C width of a token, N tokens, A heads, D width of a head, H height and W width of the
latent image, P pixels a side of a patch.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import linear_of, scale_linear
from .moh_dit_deploy import FusedAttention, Layers, SkippingAttention, attend, weigh
from .routing import HeadPlan, join_gates, tile_for, weigh_tokens

FREQUENCIES = 128
"""Cosines of the time step, and as many sines."""


@dataclass(frozen=True)
class MohDitConfig:
    """Sizes of one member of the family; sequences have one entry per layer."""

    dim: int
    width: int
    """Of a head."""
    heads: tuple[int, ...]
    shared: tuple[int, ...]
    """Heads that every token takes."""
    top_k: tuple[int, ...]
    """Routed heads that a token selects."""
    size: int = 32
    """Pixels a side of the latent image."""
    patch: int = 2
    channels: int = 4
    classes: int = 1000
    skip: bool = False
    """Whether the deploy form computes routed heads only for the tokens that select them."""

    def plan(self, layer: int) -> HeadPlan:
        """Heads of a layer."""
        return HeadPlan(self.heads[layer], self.shared[layer], self.top_k[layer])


class Attention(nn.Module):
    """Plain attention with weighted heads, as it is trained."""

    def __init__(self, config: MohDitConfig, layer: int) -> None:
        super().__init__()
        self.plan, self.width, self.skip = config.plan(layer), config.width, config.skip
        inside = self.plan.heads * config.width
        self.tokens = (config.size // config.patch) ** 2
        self.wg_0, self.wg_1, self.wg = self.plan.gates(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * inside)
        self.proj = nn.Linear(inside, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = attend(q * self.width**-0.5, k, v, self.plan.heads)
        return self.proj(weigh(mixed, weigh_tokens(x, self.plan, (self.wg_0, self.wg_1, self.wg))))

    def fused(self) -> FusedAttention | SkippingAttention:
        """Fold the scale, join the gates, take queries, keys and values apart."""
        joint = self.qkv.weight.detach().chunk(3), self.qkv.bias.detach().chunk(3)
        q, k, v = (linear_of(weight.clone(), bias.clone()) for weight, bias in zip(*joint, strict=True))
        scale = torch.full((q.out_features,), self.width**-0.5, dtype=torch.float64, device=q.weight.device)
        layers = Layers(scale_linear(q, scale), k, v, deepcopy(self.proj))
        gate = join_gates(self.plan, (self.wg_0, self.wg_1, self.wg))
        if not (self.skip and self.plan.routed):
            return FusedAttention(gate, layers)
        return SkippingAttention(gate, layers, tile=tile_for(self.tokens))


class Mlp(nn.Module):
    """Linear, GELU by tanh, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) scale + shift: (B, N, C) by (B, C)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * scale.unsqueeze(1) + shift.unsqueeze(1)


class Block(nn.Module):
    """Attention and MLP, shifted, scaled and gated by the condition."""

    def __init__(self, config: MohDitConfig, layer: int) -> None:
        super().__init__()
        self.attn: nn.Module = Attention(config, layer)
        self.mlp = Mlp(config.dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, N, C) and (B, C) to (B, N, C)."""
        return self.steps(x, self.adaLN_modulation(condition), 1)

    def steps(self, x: Tensor, modulation: Tensor, one: int) -> Tensor:
        """Take both steps; ``one`` is what the modulation's scales lack."""
        s1, m1, g1, s2, m2, g2 = modulation.chunk(6, dim=-1)
        x = x + g1.unsqueeze(1) * self.attn(modulate(x, s1, one + m1))
        return x + g2.unsqueeze(1) * self.mlp(modulate(x, s2, one + m2))


class FinalLayer(nn.Module):
    """Shifted and scaled norm, then the pixels of a patch."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, N, C) and (B, C) to (B, N, P P 2 channels)."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        return self.linear(modulate(x, shift, 1 + scale))


class TimeEmbedding(nn.Module):
    """Cosines and sines of the time step, then an MLP."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))
        frequencies = torch.exp(-math.log(10_000) * torch.arange(FREQUENCIES) / FREQUENCIES)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(B,) to (B, C)."""
        angles = t.unsqueeze(-1) * self.frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


class LabelEmbedding(nn.Module):
    """One row per class; the last row stands for no class."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, dim)

    def forward(self, y: Tensor) -> Tensor:
        """(B,) to (B, C)."""
        return self.embedding_table(y)


class Patches(nn.Module):
    """A convolution to tokens."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, N, C)."""
        return self.proj(x).flatten(2).transpose(1, 2)


def to_image(x: Tensor, config: MohDitConfig) -> Tensor:
    """Lay patches out: (B, N, P P channels) to (B, channels, H, W)."""
    side, patch = config.size // config.patch, config.patch
    x = x.reshape(-1, side, side, patch, patch, 2 * config.channels).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(-1, 2 * config.channels, config.size, config.size)


def positions(side: int, dim: int) -> Tensor:
    """Sines and cosines of the column, then of the row: (N, C)."""
    frequencies = 10_000 ** (-torch.arange(dim // 4) / (dim / 4))
    angles = torch.arange(side).unsqueeze(-1) * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=-1)  # (side, C / 2)
    columns = line.unsqueeze(0).expand(side, -1, -1)
    return torch.cat([columns, columns.transpose(0, 1)], dim=-1).reshape(side * side, dim)
