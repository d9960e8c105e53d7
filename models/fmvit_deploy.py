"""The deploy form of the FMViT-style network: what ``fused()`` of ``fmvit`` is made of.

Axis letters: B batch, C channels, H height, W width, N positions, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q^T k) v over positions; q carries the scale.

    Args:
        q: (B, C, H, W).
        k: (B, C, H', W').
        v: (B, C, H', W').
        heads: Divides C.

    Returns:
        (B, C, H, W).
    """
    _, channels, height, width = q.shape
    q, k, v = (t.reshape(-1, heads, channels // heads, t.shape[2] * t.shape[3]) for t in (q, k, v))
    weights = (q.mT @ k).softmax(dim=-1)  # (B, heads, N, N')
    return (weights @ v.mT).mT.reshape(-1, channels, height, width)


class FusedAttention(nn.Module):
    """Queries, keys and values straight from the input, one convolution each for q and for k and v."""

    def __init__(self, q: nn.Conv2d, kv: nn.Conv2d, heads: int, pool: int) -> None:
        super().__init__()
        self.q, self.kv, self.heads, self.pool = q, kv, heads, pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        k, v = self.kv(pooled(x, self.pool)).chunk(2, dim=1)
        return attend(self.q(x), k, v, self.heads)


class FusedMixing(nn.Module):
    """Both branches of frequencies from x, joined by one convolution; then the MLP."""

    def __init__(self, low: nn.Module, high: nn.Module, proj: nn.Conv2d, mlp: nn.Module) -> None:
        super().__init__()
        self.low, self.high, self.proj, self.mlp = low, high, proj, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = x + self.proj(torch.cat((self.low(x), self.high(x)), dim=1))
        return x + self.mlp(x)


class FusedFusion(nn.Module):
    """One convolution, then the MLP."""

    def __init__(self, mixer: nn.Conv2d, mlp: nn.Module) -> None:
        super().__init__()
        self.mixer, self.mlp = mixer, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.mixer(x)
        return x + self.mlp(x)


class FusedHead(nn.Module):
    """Mean over positions, then the classifier."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K)."""
        return self.linear(x.mean(dim=(2, 3)))


def pooled(x: Tensor, size: int) -> Tensor:
    """Average over squares of (B, C, H, W), which leave out the rest of a map that they do not divide."""
    return x if size == 1 else F.avg_pool2d(x, size)
