"""SMT: Scale-Aware Modulation Meet Transformer (Lin et al., arXiv 2307.08579), and ``smt_nano`` for small images.

Four stages; the first two mix tokens by convolution, the last by attention, the third alternates.

Scale-aware modulation (SAM), with h = 4 heads of c = C / 4 channels::

    v = x Wv,   s = x Ws,   u_i = DW_{3+2i}(s_i)           i = 0..3: kernels 3, 5, 7, 9
    m = P1 GELU(BN(P0 [u_00 u_10 u_20 u_30 u_01 ...]))     channels interleaved: one group of P0 sees all scales
    y = (m * v) W

Attention with a convolutional short cut::

    y = (softmax(q k^T / sqrt(d)) v + DW_3(v)) W

MLP with a residual convolution inside the activation::

    y = W2 GELU(a + DW_3(a)),   a = W1 x

Axis letters: B batch, C channels, H height, W width, N = H W tokens, K classes.
Between modules, maps are channels-last, (B, H, W, C), so that every module takes one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SAM_HEADS = 4
SAM_EXPAND = 2


@dataclass(frozen=True)
class SmtConfig:
    """Sizes of one member of the family; sequences have one entry per stage."""

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int] = (4, 4, 4, 2)
    attention_heads: tuple[int, int] = (8, 16)
    """Heads of the attention blocks of stages three and four."""
    stem_kernel: int = 3
    stem_strides: tuple[int, int] = (2, 2)
    layer_scale: float | None = None
    """Initial value of the learned scale of every branch; None has no such scale."""
    channels: int = 3
    classes: int = 1000


def to_map(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def to_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


class Patches(nn.Module):
    """Convolution, then layer normalisation of each position."""

    def __init__(self, proj: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.proj = proj
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H', W', C')."""
        return self.norm(to_last(self.proj(to_map(x))))


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

    def scales(self) -> list[nn.Module]:
        """List the depth-wise convolutions, from the small kernel to the large."""
        return [self.get_submodule(f"local_conv_{i + 1}") for i in range(SAM_HEADS)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        mixed = mix_scales(to_map(self.s(x)), self.scales())
        modulator = self.proj1(self.act(self.bn(self.proj0(mixed))))
        return self.proj(to_last(modulator) * self.v(x))


def mix_scales(s: Tensor, convs: Sequence[nn.Module]) -> Tensor:
    """Give each head its convolution and interleave the heads channel by channel.

    Args:
        s: (B, C, H, W), head after head.
        convs: One module per head, each from (B, C / heads, H, W) to the same shape.

    Returns:
        (B, C, H, W): channel ``g * heads + i`` is channel g of head i.
    """
    heads = [conv(part) for conv, part in zip(convs, s.chunk(len(convs), dim=1), strict=True)]
    return torch.stack(heads, dim=2).flatten(1, 2)


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
    grid = q.shape[1:3]
    q, k, v = (t.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, N, N)
    return (weights @ v).transpose(1, 2).flatten(2).unflatten(1, grid)


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


class Block(nn.Module):
    """x + g1 mix(LN(x)), then x + g2 MLP(LN(x)); g1 = g2 = 1 without layer scale."""

    def __init__(self, dim: int, attn: nn.Module, mlp_ratio: int, layer_scale: float | None) -> None:
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


def scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    """Multiply (B, H, W, C) by a scale (C,), if there is one."""
    return x if gamma is None else gamma * x


class Smt(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: SmtConfig) -> None:
        super().__init__()
        self.patch_embed1 = Stem(config.channels, config.dims[0], config.stem_kernel, config.stem_strides)
        for stage in range(4):
            if stage > 0:
                self.add_module(f"patch_embed{stage + 1}", _downsample(*config.dims[stage - 1 : stage + 1]))
            blocks = [_block(config, stage, j) for j in range(config.depths[stage])]
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(config.dims[stage], eps=1e-6))
        self.head = nn.Linear(config.dims[3], config.classes)
        self.apply(_initialise)

    def layers(self) -> list[nn.Module]:
        """List everything before the head in the order of execution."""
        order: list[nn.Module] = []
        for stage in range(1, 5):
            order.append(self.get_submodule(f"patch_embed{stage}"))
            order.extend(self.get_submodule(f"block{stage}").children())
            order.append(self.get_submodule(f"norm{stage}"))
        return order

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        for layer in self.layers():
            x = layer(x)
        return self.head(x.mean(dim=(1, 2)))


def _downsample(dim: int, out: int) -> Patches:
    return Patches(nn.Conv2d(dim, out, 3, stride=2, padding=1), nn.LayerNorm(out))


def _block(config: SmtConfig, stage: int, index: int) -> Block:
    dim = config.dims[stage]
    attends = stage == 3 or (stage == 2 and index % 2 == 1)
    attn = Attention(dim, config.attention_heads[stage - 2]) if attends else Modulation(dim)
    return Block(dim, attn, config.mlp_ratios[stage], config.layer_scale)


def _initialise(module: nn.Module) -> None:
    """Truncated normal for linear layers, He's rule by fan-out for convolutions, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


SMALL = (64, 128, 256, 512)
LARGE = (96, 192, 384, 768)

CONFIGS = {
    "smt_t": SmtConfig(SMALL, (2, 2, 8, 1)),
    "smt_s": SmtConfig(SMALL, (3, 4, 18, 2)),
    "smt_b": SmtConfig(SMALL, (4, 6, 28, 2), mlp_ratios=(8, 6, 4, 2), stem_kernel=7),
    "smt_l": SmtConfig(LARGE, (4, 6, 28, 4), mlp_ratios=(8, 6, 4, 2), stem_kernel=7, layer_scale=1e-4),
    "smt_nano": SmtConfig(
        (32, 48, 64, 96), (1, 2, 4, 1), attention_heads=(4, 6), stem_strides=(2, 1), channels=1, classes=10
    ),
}
