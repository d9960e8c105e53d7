"""The blocks of SMT as they are trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C channels, H height, W width, N = H W positions, K classes.
Between modules, maps are channels-last, (B, H, W, C), so that every module takes one tensor.
``on_maps()`` gives the deploy form of a module, which takes and gives (B, C, H, W) instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from .fuse import Kernel, pad_kernel, regroup
from .fuse_modules import (
    add_identity,
    conv_like,
    fold_conv_norm,
    kernel_of,
    pointwise,
    scale_conv,
    scale_linear,
)
from .smt_deploy import (
    FusedAttention,
    FusedBlock,
    FusedMlp,
    FusedModulation,
    MapNorm,
    attend,
    to_last,
    to_map,
)

SAM_HEADS = 4
SAM_EXPAND = 2

_JOINED = 4
"""Groups of ``proj0`` that the deploy form joins: 4 x 4 inputs fill a vector of 16 floats. Narrower groups
are slow in OpenVINO, and force ONNX Runtime out of its blocked layout."""


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


def interleave(parts: Sequence[Tensor]) -> Tensor:
    """Interleave tensors (C / heads, ...) to (C, ...): entry ``g * heads + i`` is entry g of part i."""
    return torch.stack(list(parts), dim=1).flatten(0, 1)


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

    def on_maps(self) -> nn.Sequential:
        """Fold the batch norm into the first convolution."""
        first, norm, act, second = deepcopy(self.conv)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return nn.Sequential(fold_conv_norm(first, norm), act, second, MapNorm(deepcopy(self.norm)))


class Patches(nn.Module):
    """Convolution, then layer normalisation of each position."""

    def __init__(self, proj: nn.Conv2d, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.proj = proj
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H', W', C')."""
        return self.norm(to_last(self.proj(to_map(x))))

    def on_maps(self) -> nn.Sequential:
        """Copy the two layers."""
        return nn.Sequential(deepcopy(self.proj), MapNorm(deepcopy(self.norm)))


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

    def on_maps(self) -> FusedModulation:
        """Write the four scales as one convolution, and fold the batch norm into ``proj0``."""
        own = deepcopy(self)
        s = own.s.weight.detach().chunk(SAM_HEADS), own.s.bias.detach().chunk(SAM_HEADS)
        scales = [kernel_of(conv) for conv in own.scales()]
        largest = own.scales()[-1]
        size = largest.kernel_size[0], largest.kernel_size[1]
        weight = interleave([pad_kernel(kernel.weight, size) for kernel in scales])
        bias = interleave([kernel.bias for kernel in scales])
        return FusedModulation(
            v=pointwise(own.v.weight, own.v.bias),
            s=pointwise(interleave(s[0]), interleave(s[1])),
            scales=conv_like(largest, Kernel(weight, bias, groups=len(bias))),
            proj0=_joined(fold_conv_norm(own.proj0, own.bn)),
            proj1=own.proj1,
            proj=pointwise(own.proj.weight, own.proj.bias),
        )


def _joined(conv: nn.Conv2d) -> nn.Conv2d:
    """Join neighbouring groups where their number allows it."""
    groups = conv.groups // _JOINED if conv.groups % _JOINED == 0 else conv.groups
    return conv_like(conv, regroup(kernel_of(conv), groups))


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

    def on_maps(self) -> FusedAttention:
        """Fold the scale into the weights of q, and take keys and values apart."""
        own = deepcopy(self)
        scale = own.q.weight.new_full((own.q.out_features,), own.scale, dtype=torch.float64)
        q = scale_linear(own.q, scale)
        k, v = zip(own.kv.weight.detach().chunk(2), own.kv.bias.detach().chunk(2), strict=True)
        return FusedAttention(
            heads=own.heads,
            q=pointwise(q.weight, q.bias),
            k=pointwise(*k),
            v=pointwise(*v),
            local_conv=own.local_conv,
            proj=pointwise(own.proj.weight, own.proj.bias),
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

    def on_maps(self) -> FusedMlp:
        """Fold ``a + DW_3(a)`` into one convolution."""
        own = deepcopy(self)
        return FusedMlp(
            fc1=pointwise(own.fc1.weight, own.fc1.bias),
            dwconv=add_identity(own.dwconv.dwconv),
            fc2=pointwise(own.fc2.weight, own.fc2.bias),
        )


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

    def on_maps(self) -> FusedBlock:
        """Fold the scales into the last linear layers, and what is inside the branches."""
        attn, mlp = self.attn.on_maps(), self.mlp.on_maps()
        if self.gamma_1 is not None and self.gamma_2 is not None:
            attn.proj = scale_conv(attn.proj, self.gamma_1)
            mlp.fc2 = scale_conv(mlp.fc2, self.gamma_2)
        norm1, norm2 = MapNorm(deepcopy(self.norm1)), MapNorm(deepcopy(self.norm2))
        return FusedBlock(norm1=norm1, attn=attn, norm2=norm2, mlp=mlp)


def scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    """Multiply (B, H, W, C) by a scale (C,), if there is one."""
    return x if gamma is None else gamma * x
