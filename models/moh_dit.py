"""MoH-DiT: diffusion transformers (arXiv 2212.09748) with Mixture-of-Head attention (arXiv 2410.11842).

One step of denoising. With c = MLP([cos(t f), sin(t f)]) + table[label], per block SiLU(c) W = (s1, m1, g1,
s2, m2, g2), and LN without weights::

    x = x + g1 attend(LN(x) (1 + m1) + s1)
    x = x + g2 MLP(LN(x) (1 + m2) + s2)

Attention is plain, with heads weighted token by token (``routing``). The large sizes have fewer heads in the
first layers and more in the last ones, all of one width, so that queries are narrower or wider than tokens.

Folds of the deploy form: the 1 of (1 + m) into the bias behind it, the scale of the logits into the queries'
weights, the bias of the patches into the position table, all gates of an attention into one layer, SiLU(c)
once for all blocks. ``skip`` takes the form in tiles instead, which computes a routed head only for the
tokens that select it; keys and values are computed for all heads in both.

The paper starts every W and the last layer at zero, so that an untrained network answers zero and two wrong
ones agree; here they start random.

Axis letters: B batch, C width of a token, N tokens, A heads, D width of a head, H height and W width of the
latent image, P pixels a side of a patch.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import linear_of, scale_linear
from .moh_dit_deploy import FusedAttention, Layers, SkippingAttention, attend, weigh
from .registry import register
from .routing import HeadPlan, join_gates, tile_for, weigh_tokens
from .spec import ModelSpec, TensorSpec

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


class MohDit(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: MohDitConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = Patches(config.channels, config.dim, config.patch)
        self.t_embedder = TimeEmbedding(config.dim)
        self.y_embedder = LabelEmbedding(config.classes, config.dim)
        table = positions(config.size // config.patch, config.dim)
        self.pos_embed = nn.Parameter(table.unsqueeze(0), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(len(config.heads)))
        self.final_layer = FinalLayer(config.dim, 2 * config.channels * config.patch**2)
        self.apply(_initialise)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict noise and variance.

        Args:
            x: (B, channels, H, W), the noisy latent image.
            t: (B,), time steps.
            y: (B,), classes.

        Returns:
            (B, 2 channels, H, W).
        """
        condition = self.t_embedder(t) + self.y_embedder(y)
        x = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            x = block(x, condition)
        return to_image(self.final_layer(x, condition), self.config)

    def fused(self) -> FusedMohDit:
        """Fold everything that the module's docstring names."""
        return FusedMohDit(self)


class FusedMohDit(nn.Module):
    """The deploy form of the whole network."""

    position: Tensor

    def __init__(self, trained: MohDit) -> None:
        super().__init__()
        own = deepcopy(trained)
        self.config, self.patches = own.config, own.x_embedder.proj
        assert self.patches.bias is not None
        position = own.pos_embed.detach() + self.patches.bias.detach()
        self.register_buffer("position", position.transpose(1, 2).clone())
        self.patches.bias = None
        self.t_embedder, self.y_embedder, self.blocks = own.t_embedder, own.y_embedder, own.blocks
        self.linear = own.final_layer.linear
        for block in self.blocks:
            assert isinstance(block, Block)
            assert isinstance(block.attn, Attention)
            block.attn = block.attn.fused()
            block.adaLN_modulation = _with_ones(block.adaLN_modulation, (1, 4))
        self.modulation = _with_ones(own.final_layer.adaLN_modulation, (1,))
        self.eval()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict noise and variance; arguments and result as those of the trained form."""
        condition = F.silu(self.t_embedder(t) + self.y_embedder(y))
        x = (self.patches(x).flatten(2) + self.position).transpose(1, 2)
        for block in self.blocks:
            assert isinstance(block, Block)
            x = block.steps(x, block.adaLN_modulation(condition), 0)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return to_image(self.linear(modulate(x, shift, scale)), self.config)


def _with_ones(modulation: nn.Sequential, scales: tuple[int, ...]) -> nn.Sequential:
    """Drop SiLU and add one to the bias of the scales, the given parts of C outputs each."""
    _, linear = deepcopy(modulation)
    assert isinstance(linear, nn.Linear)
    bias = linear.bias.detach().clone()
    for part in scales:
        bias[part * linear.in_features : (part + 1) * linear.in_features] += 1
    return nn.Sequential(linear_of(linear.weight.detach(), bias))


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


def _initialise(module: nn.Module) -> None:
    """Xavier's rule for linear layers, a small normal for the classes, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        for name, value in module.named_parameters():
            if name == "bias":
                nn.init.zeros_(value)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def _runs(*runs: tuple[int, int]) -> tuple[int, ...]:
    """Write (value, how often) out."""
    return tuple(value for value, times in runs for _ in range(times))


_XL = _runs((8, 9), (16, 10), (24, 9))
_L = _runs((8, 8), (16, 8), (24, 8))
XL_90 = MohDitConfig(1152, 72, _XL, _runs((8, 9), (16, 19)), _runs((0, 19), (3, 9)))
XL_75 = MohDitConfig(1152, 72, _XL, _runs((8, 9), (10, 10), (14, 9)), _runs((0, 9), (2, 19)))
L_90 = MohDitConfig(1024, 64, _L, _runs((8, 8), (16, 16)), _runs((0, 16), (3, 8)))
L_75 = MohDitConfig(1024, 64, _L, _runs((8, 16), (12, 8)), _runs((0, 8), (4, 16)))
B_90 = MohDitConfig(768, 64, (12,) * 12, _runs((6, 5), (7, 5), (12, 2)), _runs((4, 10), (0, 2)))
B_75 = MohDitConfig(768, 64, (12,) * 12, _runs((4, 2), (6, 8), (12, 2)), _runs((2, 2), (3, 8), (0, 2)))
S_90 = MohDitConfig(384, 64, (6,) * 12, _runs((3, 8), (6, 4)), _runs((2, 8), (0, 4)))
S_75 = MohDitConfig(384, 64, (6,) * 12, _runs((2, 2), (3, 8), (6, 2)), _runs((1, 6), (2, 4), (0, 2)))


def _published(name: str, config: MohDitConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(MohDit, config),
        inputs=(
            TensorSpec("latent", ("batch", 4, 32, 32)),
            TensorSpec("timestep", ("batch",)),
            TensorSpec("label", ("batch",), "int64"),
        ),
        outputs=("prediction",),
        paper="MoH: Multi-Head Attention as Mixture-of-Head Attention, arXiv 2410.11842",
        licence="Apache-2.0 (MoH); the DiT it builds on has its own",
        checked="exact count, forward written from the formulae",
        params=params,
    )


@register
def moh_dit_s_90() -> ModelSpec:
    """MoH-DiT-S/2, nine tenths of the heads selected, 33.0 M parameters."""
    return _published("moh_dit_s_90", S_90, 32_997_152)


@register
def moh_dit_s_75() -> ModelSpec:
    """MoH-DiT-S/2, three quarters of the heads selected, 33.0 M parameters."""
    return _published("moh_dit_s_75", S_75, 32_998_688)


@register
def moh_dit_s_75_skip() -> ModelSpec:
    """The same network, deployed so that a token's unselected heads are not computed."""
    return _published("moh_dit_s_75_skip", replace(S_75, skip=True), 32_998_688)


@register
def moh_dit_b_90() -> ModelSpec:
    """MoH-DiT-B/2, nine tenths of the heads selected, 130.6 M parameters."""
    return _published("moh_dit_b_90", B_90, 130_638_368)


@register
def moh_dit_b_75() -> ModelSpec:
    """MoH-DiT-B/2, three quarters of the heads selected, 130.6 M parameters."""
    return _published("moh_dit_b_75", B_75, 130_638_368)


@register
def moh_dit_l_90() -> ModelSpec:
    """MoH-DiT-L/2, nine tenths of the heads selected, 458.5 M parameters."""
    return _published("moh_dit_l_90", L_90, 458_512_416)


@register
def moh_dit_l_75() -> ModelSpec:
    """MoH-DiT-L/2, three quarters of the heads selected, 458.5 M parameters."""
    return _published("moh_dit_l_75", L_75, 458_528_800)


@register
def moh_dit_xl_90() -> ModelSpec:
    """MoH-DiT-XL/2, nine tenths of the heads selected, 675.7 M parameters."""
    return _published("moh_dit_xl_90", XL_90, 675_666_464)


@register
def moh_dit_xl_75() -> ModelSpec:
    """MoH-DiT-XL/2, three quarters of the heads selected, 675.7 M parameters."""
    return _published("moh_dit_xl_75", XL_75, 675_689_504)
