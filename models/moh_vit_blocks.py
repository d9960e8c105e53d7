"""The blocks of MoH-ViT as they are trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C channels, H height, W width, N = H W tokens, A heads, P pooled tokens.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import linear_of, pointwise
from .moh_vit_deploy import (
    BLOCKED,
    FusedAttention,
    FusedBlock,
    FusedMlp,
    Layers,
    Mixer,
    Pair,
    Pool,
    Terms,
    mean_squares,
    neighbour_index,
)
from .moh_vit_skip import SkippingAttention
from .routing import Gates, HeadPlan, join_gates, tile_for, weigh_tokens

CPB_HIDDEN = 512


@dataclass(frozen=True)
class MohVitConfig:
    """Sizes of one member of the family; sequences have one entry per stage."""

    dims: tuple[int, ...]
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    shared: tuple[int, ...]
    """Heads that every token takes."""
    top_k: tuple[int, ...]
    """Routed heads that a token selects."""
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    ratios: tuple[int, ...] = (8, 4, 2, 1)
    """Positions per pooled token, a side."""
    window: int = 3
    stem: tuple[int, int] = (7, 4)
    """Kernel and stride of the first convolution."""
    size: int = 224
    """Pixels a side; the network takes no other size."""
    channels: int = 3
    classes: int = 1000
    skip: bool = False
    """Whether the deploy form computes routed heads only for the tokens that select them."""

    def grid(self, stage: int) -> tuple[int, int]:
        """Positions of a stage."""
        side = self.size // self.stem[1] // 2**stage
        return side, side

    def plan(self, stage: int) -> HeadPlan:
        """Heads of a stage."""
        return HeadPlan(self.heads[stage], self.shared[stage], self.top_k[stage])


class RelativeBias(nn.Module):
    """b_far, an MLP of the distances between positions and centres of pooled tokens.

    The table holds every distance once: in units of one position, distances along a side are those of
    0 .. H - 1 + r (p - 1) shifted by a constant, r positions per pooled token, p pooled tokens a side.
    """

    table: Tensor
    index: Tensor

    def __init__(self, grid: tuple[int, int], ratio: int) -> None:
        super().__init__()
        sides = [self._side(side, ratio) for side in grid]
        (rows, down), (columns, across) = sides
        table = torch.cartesian_prod(rows, columns)
        index = down[:, None, :, None] * len(columns) + across[None, :, None, :]
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("index", index.flatten(), persistent=False)
        self.queries = grid[0] * grid[1]

    @staticmethod
    def _side(side: int, ratio: int) -> tuple[Tensor, Tensor]:
        """Give the coordinate of every distance (U,), and which of them is between each pair (side, p)."""
        pooled = side // ratio
        last = ratio * (pooled - 1)
        distance = torch.arange(side + last) - last - (ratio - 1) / 2
        distance = distance * 8 / (side - 1)
        coordinate = distance.sign() * torch.log2(distance.abs() + 1) / 3
        return coordinate, torch.arange(side)[:, None] - ratio * torch.arange(pooled) + last

    def forward(self, fc1: nn.Linear, fc2: nn.Linear) -> Tensor:
        """Give (A, N, P)."""
        values = fc2(F.relu(fc1(self.table))).T
        return values.index_select(1, self.index).reshape(len(values), self.queries, -1)


class GlobalAttention(nn.Module):
    """Attention of the last stage: of every token to all tokens."""

    def __init__(self, config: MohVitConfig, stage: int) -> None:
        super().__init__()
        dim, self.plan, self.skip = config.dims[stage], config.plan(stage), config.skip
        heads, grid = self.plan.heads, config.grid(stage)
        self.wg_0, self.wg_1, self.wg = self.plan.gates(dim)
        self.temperature = _temperature(heads)
        self.query_embedding = nn.Parameter(0.02 * torch.randn(heads, 1, dim // heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.cpb_fc1 = nn.Linear(2, CPB_HIDDEN)
        self.cpb_fc2 = nn.Linear(CPB_HIDDEN, heads)
        self.far_bias = RelativeBias(grid, 1)
        self.mixer = Mixer(heads, dim // heads, grid, 0)

    def terms(self) -> Terms:
        """Compute what does not depend on the input."""
        heads, tokens = self.plan.heads, math.prod(self.mixer.grid)
        scale = F.softplus(self.temperature).flatten(1) * math.log(tokens)
        bias = self.far_bias(self.cpb_fc1, self.cpb_fc2)
        nothing = bias.new_zeros(heads, self.mixer.width, 0)
        embedding = self.query_embedding.squeeze(1)
        return Terms(embedding, scale.expand(-1, tokens), bias, nothing, nothing[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = self.mixer(q, None, Pair(k, v), self.terms())
        return self.proj((mixed * weigh_tokens(x, self.plan, _gates(self)).unsqueeze(-1)).flatten(2))

    def fused(self) -> nn.Module:
        """Take queries, keys and values apart and everything else that is constant to constants."""
        own = deepcopy(self)
        q, k, v = _apart(own.qkv, 3)
        dense = FusedAttention(
            join_gates(own.plan, _gates(own)),
            Layers(q, k, v, own.proj),
            None,
            own.mixer,
            _detached(own.terms()),
        )
        return _skipping(dense) if self.skip else dense


class LocalAttention(nn.Module):
    """Attention of the other stages: to the neighbours and to pooled tokens."""

    outside: Tensor

    def __init__(self, config: MohVitConfig, stage: int) -> None:
        super().__init__()
        dim, self.plan, self.skip = config.dims[stage], config.plan(stage), config.skip
        heads, grid, places = self.plan.heads, config.grid(stage), config.window**2
        self.ratio = config.ratios[stage]
        self.wg_0, self.wg_1, self.wg = self.plan.gates(dim)
        self.temperature = _temperature(heads)
        self.query_embedding = nn.Parameter(0.02 * torch.randn(heads, 1, dim // heads))
        self.relative_pos_bias_local = nn.Parameter(0.0004 * torch.randn(heads, places))
        self.learnable_tokens = nn.Parameter(0.02 * torch.randn(heads, dim // heads, places))
        self.learnable_bias = nn.Parameter(torch.zeros(heads, 1, places))
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)
        self.cpb_fc1 = nn.Linear(2, CPB_HIDDEN)
        self.cpb_fc2 = nn.Linear(CPB_HIDDEN, heads)
        self.far_bias = RelativeBias(grid, self.ratio)
        self.mixer = Mixer(heads, dim // heads, grid, config.window)
        outside = neighbour_index(grid, config.window) == math.prod(grid)
        self.register_buffer("outside", outside.to(torch.get_default_dtype()), persistent=False)

    def terms(self) -> Terms:
        """Compute what does not depend on the input."""
        far = self.far_bias(self.cpb_fc1, self.cpb_fc2)
        keys = (1 - self.outside).sum(dim=1) + far.shape[2]  # (N,)
        near = self.relative_pos_bias_local.unsqueeze(1) + BLOCKED * self.outside
        return Terms(
            embedding=self.query_embedding.squeeze(1),
            scale=F.softplus(self.temperature).flatten(1) * keys.log(),
            bias=torch.cat([near, far], dim=-1),
            tokens=self.learnable_tokens,
            offset=self.learnable_bias.squeeze(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        near = Pair(*self.kv(x).chunk(2, dim=-1))
        summary = F.gelu(F.linear(x, self.sr.weight.flatten(1), self.sr.bias))
        pooled = self.norm(mean_squares(summary, self.mixer.grid, self.ratio))
        far = Pair(*self.kv(pooled).chunk(2, dim=-1))
        mixed = self.mixer(self.q(x), near, far, self.terms())
        return self.proj((mixed * weigh_tokens(x, self.plan, _gates(self)).unsqueeze(-1)).flatten(2))

    def fused(self) -> nn.Module:
        """Take keys and values apart and everything else that is constant to constants."""
        own = deepcopy(self)
        k, v = _apart(own.kv, 2)
        assert own.sr.bias is not None
        sr = linear_of(own.sr.weight.detach().flatten(1), own.sr.bias.detach())
        pool = Pool(sr, own.norm, own.mixer.grid, own.ratio)
        layers, terms = Layers(own.q, k, v, own.proj), _detached(own.terms())
        dense = FusedAttention(join_gates(own.plan, _gates(own)), layers, pool, own.mixer, terms)
        return _skipping(dense) if self.skip else dense


Attention = GlobalAttention | LocalAttention


def _temperature(heads: int) -> nn.Parameter:
    """Start at softplus(t) = 1 / 0.24."""
    return nn.Parameter(torch.full((heads, 1, 1), math.log(math.expm1(1 / 0.24))))


def _gates(attn: Attention) -> Gates:
    return attn.wg_0, attn.wg_1, attn.wg


def _apart(joint: nn.Linear, count: int) -> list[nn.Linear]:
    parts = zip(joint.weight.detach().chunk(count), joint.bias.detach().chunk(count), strict=True)
    return [linear_of(weight.clone(), bias.clone()) for weight, bias in parts]


def _detached(terms: Terms) -> Terms:
    return Terms(*(value.detach().clone() for value in terms))


def _skipping(dense: FusedAttention) -> nn.Module:
    """Skip heads where there are any to skip."""
    if not dense.gate.plan.routed:
        return dense
    return SkippingAttention(dense, tile=tile_for(math.prod(dense.mixer.grid)))


class Depthwise(nn.Module):
    """The 3x3 depth-wise convolution of the MLP."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        maps = x.transpose(1, 2).reshape(-1, x.shape[2], *self.grid)
        return self.dwconv(maps).flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    """Gated MLP; two thirds of the usual width, for the two halves of the first layer."""

    def __init__(self, dim: int, ratio: int, grid: tuple[int, int]) -> None:
        super().__init__()
        hidden = 2 * ratio * dim // 3
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.dwconv = Depthwise(hidden, grid)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.gelu(self.dwconv(gate)) * value)

    def fused(self) -> FusedMlp:
        """Write the linear layers as 1x1 convolutions."""
        own = deepcopy(self)
        gate, value = _apart(own.fc1, 2)
        return FusedMlp(
            gate=pointwise(gate.weight, gate.bias),
            value=pointwise(value.weight, value.bias),
            dwconv=own.dwconv.dwconv,
            fc2=pointwise(own.fc2.weight, own.fc2.bias),
            grid=own.dwconv.grid,
        )


class Block(nn.Module):
    """x + attend(LN(x)), then x + MLP(LN(x))."""

    def __init__(self, config: MohVitConfig, stage: int) -> None:
        super().__init__()
        dim, last = config.dims[stage], stage == len(config.dims) - 1
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn: Attention = (GlobalAttention if last else LocalAttention)(config, stage)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, config.mlp_ratios[stage], config.grid(stage))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def fused(self) -> FusedBlock:
        """Fold both branches."""
        norm1, norm2 = deepcopy(self.norm1), deepcopy(self.norm2)
        return FusedBlock(norm1=norm1, attn=self.attn.fused(), norm2=norm2, mlp=self.mlp.fused())
