"""The deploy form of SMT: what ``fused()`` of ``smt.Smt`` is made of, and the arithmetic both forms share.

Everything is a map, (B, C, H, W): linear layers are 1x1 convolutions, so that an engine keeps one memory
layout from the stem to the head and adds biases and residuals inside its convolutions.

Axis letters: B batch, C channels, H height, W width, N = H W positions, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn


def to_map(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def to_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T) v over all positions; q carries the scale.

    Args:
        q: (B, H, W, C).
        k: (B, H, W, C).
        v: (B, H, W, C).
        heads: Divides C.

    Returns:
        (B, H, W, C).
    """
    _, height, width, channels = q.shape
    # -1 stands for the batch, so that an exported graph computes no shapes at run time.
    q, k, v = (t.reshape(-1, height * width, heads, channels // heads).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, N, N)
    return (weights @ v).transpose(1, 2).reshape(-1, height, width, channels)


class MapNorm(nn.Module):
    """Layer normalisation of each position of a map."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return to_map(self.norm(to_last(x)))


class FusedModulation(nn.Module):
    """Scale-aware modulation whose four scales are one depth-wise convolution.

    ``s`` gives its channels interleaved; the kernels, surrounded by zeros up to the largest, are interleaved
    alike, so that nothing is split or stacked before ``proj0``. The batch norm is folded into ``proj0``, the
    groups of which are joined until they are as wide as a vector.
    """

    def __init__(
        self,
        *,
        v: nn.Conv2d,
        s: nn.Conv2d,
        scales: nn.Conv2d,
        proj0: nn.Conv2d,
        proj1: nn.Conv2d,
        proj: nn.Conv2d,
    ) -> None:
        super().__init__()
        self.v, self.s, self.scales, self.proj0, self.proj1, self.proj = v, s, scales, proj0, proj1, proj
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        modulator = self.proj1(self.act(self.proj0(self.scales(self.s(x)))))
        return self.proj(modulator * self.v(x))


class FusedAttention(nn.Module):
    """Attention whose scale is folded into ``q``; keys and values are two layers, so nothing is split."""

    def __init__(
        self,
        *,
        heads: int,
        q: nn.Conv2d,
        k: nn.Conv2d,
        v: nn.Conv2d,
        local_conv: nn.Conv2d,
        proj: nn.Conv2d,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.local_conv, self.proj = q, k, v, local_conv, proj

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        v = self.v(x)
        mixed = attend(to_last(self.q(x)), to_last(self.k(x)), to_last(v), self.heads)
        return self.proj(to_map(mixed) + self.local_conv(v))


class FusedMlp(nn.Module):
    """MLP whose residual is folded into the depth-wise convolution."""

    def __init__(self, *, fc1: nn.Conv2d, dwconv: nn.Conv2d, fc2: nn.Conv2d) -> None:
        super().__init__()
        self.fc1, self.dwconv, self.fc2 = fc1, dwconv, fc2
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.fc2(self.act(self.dwconv(self.fc1(x))))


class FusedBlock(nn.Module):
    """x + mix(LN(x)), then x + MLP(LN(x)); scales are folded into the last layer of each branch."""

    def __init__(self, *, norm1: nn.Module, attn: nn.Module, norm2: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm1, attn, norm2, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MeanHead(nn.Module):
    """Mean over positions, then a linear classifier."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K)."""
        return self.linear(x.mean(dim=(2, 3)))
