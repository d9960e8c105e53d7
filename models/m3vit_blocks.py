"""The blocks of M3ViT as they are trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C width of a token, N tokens with the class token, E experts, K experts of a token,
F width inside an expert.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .m3vit_deploy import ExpertLayer, TiledExperts, select_experts
from .routing import spread


@dataclass(frozen=True)
class M3VitConfig:
    """Sizes of one member of the family."""

    size: tuple[int, int]
    """Height and width in pixels; the network takes no others."""
    dim: int
    tasks: int
    depth: int = 12
    heads: int = 12
    experts: int = 16
    top_k: int = 4
    expert_ratio: int = 1
    mlp_ratio: int = 4
    patch: int = 16
    decoder: int = 256
    """Width of a decoder."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row."""
        return self.size[0] // self.patch, self.size[1] // self.patch


class Attention(nn.Module):
    """Plain attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale: float | None = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        q, k, v = (self._split(t) for t in self.qkv(x).chunk(3, dim=-1))
        q = q if self.scale is None else q * self.scale
        mixed = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, t: Tensor) -> Tensor:
        return t.reshape(-1, t.shape[1], self.heads, t.shape[2] // self.heads).transpose(1, 2)

    def fused(self) -> Attention:
        """Fold the scale into the weights of the queries."""
        own = deepcopy(self)
        if own.scale is not None:
            for value in (own.qkv.weight.data, own.qkv.bias.data):
                queries = value[: len(value) // 3]
                queries.copy_(queries.double() * own.scale)
        own.scale = None
        return own


class Mlp(nn.Module):
    """Linear, GELU, linear; the same for every task."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))

    def fused(self) -> Mlp:
        """Copy the layers."""
        return deepcopy(self)


class ExpertLinear(nn.Module):
    """One linear layer per expert: weights (E, out, in) and biases (E, out)."""

    def __init__(self, experts: int, size: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, out, size) * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(experts, out))


class Experts(nn.Module):
    """The two layers of every expert."""

    def __init__(self, experts: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.htoh4 = ExpertLinear(experts, dim, hidden)
        self.h4toh = ExpertLinear(experts, hidden, dim)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Sum all experts' answers to (B, N, C), weighted by (B, N, E): (B, N, C)."""
        total = torch.zeros_like(x)
        layers = (self.htoh4.weight, self.htoh4.bias, self.h4toh.weight, self.h4toh.bias)
        for e, (w1, b1, w2, b2) in enumerate(zip(*layers, strict=True)):
            total = total + weights[..., e : e + 1] * F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)
        return total


class TaskGate(nn.Module):
    """The gate of one task."""

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.w_gate = nn.Parameter(torch.randn(dim, experts) * dim**-0.5)


class ExpertMlp(nn.Module):
    """Experts behind gates, as they are trained."""

    def __init__(self, config: M3VitConfig) -> None:
        super().__init__()
        self.top_k, self.count = config.top_k, config.experts
        self.experts = Experts(config.experts, config.dim, config.expert_ratio * config.dim)
        self.gate = nn.ModuleList(TaskGate(config.dim, config.experts) for _ in range(config.tasks))

    def gates(self) -> Tensor:
        """Stack the gates: (tasks, C, E)."""
        return torch.stack([gate.get_parameter("w_gate") for gate in self.gate])

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) and (B,) to (B, N, C)."""
        best, chosen = select_experts(x, self.gates(), task, self.top_k)
        return self.experts(x, spread(chosen, best, self.count))

    def fused(self) -> TiledExperts:
        """Compute selected pairs of token and expert only."""
        layers = (self.experts.htoh4, self.experts.h4toh)
        first, second = (ExpertLayer(layer.weight, layer.bias) for layer in layers)
        return TiledExperts(self.gates(), first, second, self.top_k)


class Block(nn.Module):
    """x + attend(LN(x)), then x + MLP or experts (LN(x))."""

    def __init__(self, config: M3VitConfig, index: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        dense = Mlp(config.dim, config.mlp_ratio * config.dim)
        self.mlp: nn.Module = ExpertMlp(config) if index % 2 else dense

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) and (B,) to (B, N, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x), task)

    def fused(self) -> Block:
        """Fold both branches."""
        own = deepcopy(self)
        own.attn = self.attn.fused()
        assert isinstance(self.mlp, Mlp | ExpertMlp)
        own.mlp = self.mlp.fused()
        return own
