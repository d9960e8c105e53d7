"""The deploy form of SMT: what ``fused()`` of ``smt_blocks`` returns, and the arithmetic both forms share.

Axis letters: B batch, C channels, H height, W width, N = H W positions, K classes.
Between modules, maps are channels-last, (B, H, W, C), so that every module takes one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def to_map(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def to_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def mix_scales(s: Tensor, convs: Sequence[nn.Module]) -> Tensor:
    """Give each head its convolution and interleave the heads channel by channel.

    Args:
        s: (B, C, H, W), head after head.
        convs: One module per head, each from (B, C / heads, H, W) to the same shape.

    Returns:
        (B, C, H, W): channel ``g * heads + i`` is channel g of head i.
    """
    heads = [conv(part) for conv, part in zip(convs, s.chunk(len(convs), dim=1), strict=True)]
    return torch.stack(heads, dim=2).reshape(-1, *s.shape[1:])


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


class Patches(nn.Module):
    """Convolution, then layer normalisation of each position."""

    def __init__(self, proj: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.proj = proj
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H', W', C')."""
        return self.norm(to_last(self.proj(to_map(x))))


class Pixels(nn.Module):
    """The stem: convolutions of the pixels, then layer normalisation of each position."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, H', W', C')."""
        return self.norm(to_last(self.conv(x)))


class FusedModulation(nn.Module):
    """Scale-aware modulation whose batch norm is folded into ``proj0``."""

    def __init__(
        self,
        *,
        v: nn.Linear,
        s: nn.Linear,
        scales: Sequence[nn.Conv2d],
        proj0: nn.Conv2d,
        proj1: nn.Conv2d,
        proj: nn.Linear,
    ) -> None:
        super().__init__()
        self.v, self.s, self.proj0, self.proj1, self.proj = v, s, proj0, proj1, proj
        self.scales = nn.ModuleList(scales)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        mixed = mix_scales(to_map(self.s(x)), list(self.scales))
        modulator = self.proj1(self.act(self.proj0(mixed)))
        return self.proj(to_last(modulator) * self.v(x))


class FusedAttention(nn.Module):
    """Attention whose scale is folded into ``q``."""

    def __init__(
        self, *, heads: int, q: nn.Linear, kv: nn.Linear, local_conv: nn.Conv2d, proj: nn.Linear
    ) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.local_conv, self.proj = q, kv, local_conv, proj

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        k, v = self.kv(x).chunk(2, dim=-1)
        mixed = attend(self.q(x), k, v, self.heads)
        return self.proj(mixed + to_last(self.local_conv(to_map(v))))


class FusedMlp(nn.Module):
    """MLP whose residual is folded into the depth-wise convolution."""

    def __init__(self, *, fc1: nn.Linear, dwconv: nn.Conv2d, fc2: nn.Linear) -> None:
        super().__init__()
        self.fc1, self.dwconv, self.fc2 = fc1, dwconv, fc2
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return self.fc2(self.act(to_last(self.dwconv(to_map(self.fc1(x))))))


class FusedBlock(nn.Module):
    """x + mix(LN(x)), then x + MLP(LN(x)); scales are folded into the last layer of each branch."""

    def __init__(self, *, norm1: nn.Module, attn: nn.Module, norm2: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm1, attn, norm2, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MeanHead(nn.Module):
    """Mean over positions, then a linear classifier."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, K)."""
        return self.linear(x.mean(dim=(1, 2)))
