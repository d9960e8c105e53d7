"""Attention of the Dynamic Perceiver as it is trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C channels, Q queries, K keys, N latent tokens, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOLED = 7
"""Positions a side of the map that the latents look at."""


class MultiHead(nn.Module):
    """softmax(q (k + b)^T / sqrt(d)) v, head by head; b only where keys have places."""

    relative_position_bias: nn.Parameter | None

    def __init__(self, heads: int, query: int, key: int, inner: int, places: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.scale: float | None = (inner // heads) ** -0.5
        self.q_proj = nn.Linear(query, inner, bias=False)
        self.k_proj = nn.Linear(key, inner, bias=False)
        self.v_proj = nn.Linear(key, inner, bias=False)
        self.o_proj = nn.Linear(inner, query)
        bias = nn.Parameter(torch.zeros(1, places, inner)) if places else None
        self.register_parameter("relative_position_bias", bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Queries from (B, Q, C), keys and values from (B, K, C'): (B, Q, C)."""
        q = self.q_proj(x)
        return self.attend(q if self.scale is None else q * self.scale, y)

    def attend(self, q: Tensor, y: Tensor) -> Tensor:
        """(B or 1, Q, inner) scaled queries and (B, K, C') to (B, Q, C)."""
        k = self.k_proj(y)
        if self.relative_position_bias is not None:
            k = k + self.relative_position_bias
        q, k, v = (self._split(t) for t in (q, k, self.v_proj(y)))
        mixed = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, t: Tensor) -> Tensor:
        return t.reshape(-1, t.shape[1], self.heads, t.shape[2] // self.heads).transpose(1, 2)

    def fold(self) -> None:
        """Fold the scale into the weights of the queries, in place."""
        if self.scale is not None:
            weight = self.q_proj.weight
            weight.data = (weight.data.double() * self.scale).to(weight.dtype)
            self.scale = None


class CrossAttention(nn.Module):
    """Attention of normalised queries to other, normalised tokens."""

    def __init__(self, heads: int, query: int, key: int, inner: int, places: int = 0) -> None:
        super().__init__()
        self.q_norm = nn.LayerNorm(query)
        self.kv_norm = nn.LayerNorm(key)
        self.attention = MultiHead(heads, query, key, inner, places)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, Q, C) and (B, K, C') to (B, Q, C)."""
        return self.attention(self.q_norm(x), self.kv_norm(y))


class SelfAttention(nn.Module):
    """Attention of normalised tokens to each other."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = MultiHead(heads, dim, dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        x = self.norm(x)
        return self.attention(x, x)


class Mlp(nn.Module):
    """Layer norm, linear, GELU, linear."""

    def __init__(self, dim: int, widening: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, widening * dim)
        self.fc2 = nn.Linear(widening * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(self.layernorm(x))))


class CrossLayer(nn.Module):
    """x + attention to y, then x + MLP."""

    def __init__(self, query: int, key: int, inner: int, places: int = 0) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(1, query, key, inner, places)
        self.mlp = Mlp(query, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, Q, C) and (B, K, C') to (B, Q, C)."""
        x = x + self.cross_attn(x, y)
        return x + self.mlp(x)


class SelfLayer(nn.Module):
    """x + attention, then x + MLP."""

    def __init__(self, heads: int, dim: int, widening: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(heads, dim)
        self.mlp = Mlp(dim, widening)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        x = x + self.self_attn(x)
        return x + self.mlp(x)


def read_map(cross: nn.Module, z: Tensor, x: Tensor) -> Tensor:
    """Let tokens (B, N, C) attend to a map (B, C', H, W)."""
    return cross(z, x.flatten(2).transpose(1, 2))


def write_map(cross: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """Let each position of a map (B, C', H, W) attend to tokens (B, N, C)."""
    tokens = cross(x.flatten(2).transpose(1, 2), z)
    return tokens.transpose(1, 2).reshape(-1, *x.shape[1:])


def pool(x: Tensor) -> Tensor:
    """Mean over 7 x 7 fields of a map (B, C, H, W)."""
    return F.adaptive_avg_pool2d(x, POOLED)
