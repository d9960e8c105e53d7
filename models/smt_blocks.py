"""The blocks of SMT as they are trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C channels, H height, W width, N = H W positions, K classes.
Between modules, maps are channels-last, (B, H, W, C), so that every module takes one tensor.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .fuse_modules import add_identity, fold_conv_norm, scale_linear
from .smt_deploy import (
    FusedAttention,
    FusedBlock,
    FusedMlp,
    FusedModulation,
    Pixels,
    attend,
    mix_scales,
    to_last,
    to_map,
)

SAM_HEADS = 4
SAM_EXPAND = 2


class Stem(nn.Module):
    """Strided convolution, batch norm, ReLU, patch convolution, layer norm."""

    def __init__(self, channels: int, dim: int, kernel: int, strides: tuple[int, int]) -> None:
        super().__init__()
        first, second = strides
        self.conv = nn.Sequential(
            nn.Conv2d(channels, dim, kernel, first, kernel // 2, bias=False),
            nn.BatchNorm2d(dim),
            nn.ReLU(),
            nn.Conv2d(dim, dim, second, second),
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, H', W', C')."""
        return self.norm(to_last(self.conv(x)))

    def fused(self) -> Pixels:
        """Fold the batch norm into the first convolution."""
        first, norm, act, second = deepcopy(self.conv)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        conv = nn.Sequential(fold_conv_norm(first, norm), act, second)
        return Pixels(conv, deepcopy(self.norm))


class Modulation(nn.Module):
    """Scale-aware modulation (SAM)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        head = dim // SAM_HEADS
        self.v = nn.Linear(dim, dim)
        self.s = nn.Linear(dim, dim)
        for i in range(SAM_HEADS):
            conv = nn.Conv2d(head, head, 3 + 2 * i, padding=1 + i, groups=head)
            self.add_module(f"local_conv_{i + 1}", conv)
        self.proj0 = nn.Conv2d(dim, SAM_EXPAND * dim, 1, groups=head)
        self.bn = nn.BatchNorm2d(SAM_EXPAND * dim)
        self.proj1 = nn.Conv2d(SAM_EXPAND * dim, dim, 1)
        self.proj = nn.Linear(dim, dim)
        self.act = nn.GELU()

    def scales(self) -> list[nn.Conv2d]:
        """List the depth-wise convolutions, from the small kernel to the large."""
        found = [self.get_submodule(f"local_conv_{i + 1}") for i in range(SAM_HEADS)]
        return [conv for conv in found if isinstance(conv, nn.Conv2d)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        mixed = mix_scales(to_map(self.s(x)), self.scales())
        modulator = self.proj1(self.act(self.bn(self.proj0(mixed))))
        return self.proj(to_last(modulator) * self.v(x))

    def fused(self) -> FusedModulation:
        """Fold the batch norm into ``proj0``."""
        own = deepcopy(self)
        return FusedModulation(
            v=own.v,
            s=own.s,
            scales=own.scales(),
            proj0=fold_conv_norm(own.proj0, own.bn),
            proj1=own.proj1,
            proj=own.proj,
        )


class Attention(nn.Module):
    """Multi-head attention with a depth-wise convolution of the values beside it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.local_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        k, v = self.kv(x).chunk(2, dim=-1)
        mixed = attend(self.q(x) * self.scale, k, v, self.heads)
        return self.proj(mixed + to_last(self.local_conv(to_map(v))))

    def fused(self) -> FusedAttention:
        """Fold the scale into the weights of q."""
        own = deepcopy(self)
        scale = own.q.weight.new_full((own.q.out_features,), own.scale, dtype=torch.float64)
        return FusedAttention(
            heads=own.heads, q=scale_linear(own.q, scale), kv=own.kv, local_conv=own.local_conv, proj=own.proj
        )


class Depthwise(nn.Module):
    """The 3x3 depth-wise convolution of the MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return to_last(self.dwconv(to_map(x)))


class Mlp(nn.Module):
    """Two linear layers with a residual depth-wise convolution inside the activation."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = Depthwise(hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        a = self.fc1(x)
        return self.fc2(self.act(a + self.dwconv(a)))

    def fused(self) -> FusedMlp:
        """Fold ``a + DW_3(a)`` into one convolution."""
        own = deepcopy(self)
        return FusedMlp(fc1=own.fc1, dwconv=add_identity(own.dwconv.dwconv), fc2=own.fc2)


class Block(nn.Module):
    """x + g1 mix(LN(x)), then x + g2 MLP(LN(x)); g1 = g2 = 1 without layer scale."""

    def __init__(
        self, dim: int, attn: Modulation | Attention, mlp_ratio: int, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio * dim)
        self.gamma_1 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma_2 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = x + scaled(self.attn(self.norm1(x)), self.gamma_1)
        return x + scaled(self.mlp(self.norm2(x)), self.gamma_2)

    def fused(self) -> FusedBlock:
        """Fold the scales into the last linear layers, and what is inside the branches."""
        attn, mlp = self.attn.fused(), self.mlp.fused()
        if self.gamma_1 is not None and self.gamma_2 is not None:
            attn.proj = scale_linear(attn.proj, self.gamma_1)
            mlp.fc2 = scale_linear(mlp.fc2, self.gamma_2)
        norm1, norm2 = deepcopy(self.norm1), deepcopy(self.norm2)
        return FusedBlock(norm1=norm1, attn=attn, norm2=norm2, mlp=mlp)


def scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    """Multiply (B, H, W, C) by a scale (C,), if there is one."""
    return x if gamma is None else gamma * x
