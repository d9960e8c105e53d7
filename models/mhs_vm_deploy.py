"""The deploy form of a block of MHS-VM: one scan for all sequences of all heads.

The sequences have the same length, so that they are groups of one scan: 4 per head. Weights are stacked over
groups, the routes of all heads are one gather, -exp(A) is a constant.

Axis letters: B batch, C channels, H height, W width, L pixels, M heads, G = 4 M groups, D channels of a head,
N states, R rank of the step size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import split_linear
from .scan import selective_scan, softplus


class EngineParts(Protocol):
    """What the deploy form takes from one head's state-space model."""

    x_proj_weight: nn.Parameter
    dt_projs_weight: nn.Parameter
    dt_projs_bias: nn.Parameter
    A_logs: nn.Parameter
    Ds: nn.Parameter
    sizes: tuple[int, int, int]


class ScanningParts(Protocol):
    """What it takes from one head's routes."""

    order: Tensor


class HeadParts(Protocol):
    """What it takes from one head."""

    threshold: float

    @property
    def mambaeng(self) -> EngineParts:
        """Its state-space model."""
        ...

    @property
    def scanning(self) -> ScanningParts:
        """Its routes."""
        ...


class ScanParts(Protocol):
    """What it takes from a multi-head scan."""

    x_ssproj: nn.Linear
    cat_norm: nn.LayerNorm
    y_proj: nn.Linear

    def heads(self) -> Sequence[HeadParts]:
        """List the heads in the order of their channels."""
        ...


class GateParts(Protocol):
    """What it takes from a gated scan."""

    in_proj: nn.Linear
    conv2d: nn.Conv2d
    out_norm: nn.LayerNorm

    @property
    def mhs(self) -> ScanParts:
        """Its heads."""
        ...


def gated_sum(y: Tensor, dim: int, threshold: float) -> Tensor:
    """Add four sequences where they disagree: (sum of y_k) ReLU(std(y_k) / (mean(y_k - min) + 1e-5) - t).

    Args:
        y: The sequences along ``dim``.
        dim: An axis of four; it is gone in the answer.
        threshold: t.
    """
    above = (y - y.amin(dim, keepdim=True)).mean(dim)
    return y.sum(dim) * (y.std(dim) / (above + 1e-5) - threshold).relu()


class FusedScan(nn.Module):
    """All sequences of all heads, (B, L, C) to the same shape."""

    there: Tensor
    """(G L,): what each sequence reads at each step, in (M L)."""
    back: Tensor
    """(G L,): where each sequence left each pixel, in (L G)."""
    to_rank: Tensor
    """(G, D, R); likewise ``to_b`` and ``to_c``, (G, D, N)."""
    to_b: Tensor
    to_c: Tensor
    to_step: Tensor
    """(G, R, D), and its bias (G, 1, D)."""
    bias: Tensor
    rates: Tensor
    """(G, N, D): the decay rates."""
    skip: Tensor
    """(G, D)."""

    def __init__(self, heads: Sequence[HeadParts]) -> None:
        super().__init__()
        engines = [head.mambaeng for head in heads]
        self.count, self.threshold = len(heads), heads[0].threshold
        order = torch.stack([head.scanning.order for head in heads])  # (M, G/M, L)
        self._remember(order)
        into = _stack(engine.x_proj_weight.mT for engine in engines)
        parts: tuple[Tensor, ...] = torch.split(into, list(engines[0].sizes), dim=-1)
        for name, part in zip(("to_rank", "to_b", "to_c"), parts, strict=True):
            self.register_buffer(name, part.contiguous())
        self.register_buffer("to_step", _stack(engine.dt_projs_weight.mT for engine in engines).contiguous())
        self.register_buffer("bias", _stack(engine.dt_projs_bias for engine in engines).unsqueeze(1))
        self.register_buffer("rates", _stack(_rates(engine) for engine in engines).contiguous())
        self.register_buffer("skip", _stack(engine.Ds.view(4, -1) for engine in engines))

    def _remember(self, order: Tensor) -> None:
        heads, each, length = order.shape
        start = torch.arange(heads)[:, None, None] * length
        self.register_buffer("there", (order + start).flatten())
        group = torch.arange(heads * each).view(heads, each, 1)
        self.register_buffer("back", (order.argsort(dim=-1) * heads * each + group).flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to the same shape."""
        batch, length, channels = x.shape
        groups, width = 4 * self.count, channels // self.count
        heads = torch.stack(x.chunk(self.count, dim=-1), dim=1).flatten(1, 2)  # (B, M L, D)
        u = heads.index_select(1, self.there).view(batch, groups, length, width)
        dt = softplus(u @ self.to_rank @ self.to_step + self.bias)
        steps = (t.permute(2, 0, 1, 3).contiguous() for t in (dt * u, dt, u @ self.to_b, u @ self.to_c, u))
        driven, dt, b, c, u = steps  # (L, B, G, .)
        y = selective_scan(driven, dt, self.rates, b, c) + self.skip * u
        y = y.transpose(0, 1).flatten(1, 2).index_select(1, self.back)  # (B, G L, D)
        y = gated_sum(y.view(batch, self.count, 4, length, width), 2, self.threshold)
        return torch.cat(y.unbind(1), dim=-1)


class FusedBlock(nn.Module):
    """A whole block, (B, H, W, C) to the same shape."""

    def __init__(self, norm: nn.LayerNorm, gate: GateParts) -> None:
        super().__init__()
        self.norm = deepcopy(norm)
        self.to_u, self.to_z = split_linear(gate.in_proj, (gate.in_proj.in_features,) * 2)
        self.conv = deepcopy(gate.conv2d)
        self.to_heads = deepcopy(gate.mhs.x_ssproj)
        self.scan = FusedScan(gate.mhs.heads())
        self.from_heads = nn.Sequential(*deepcopy([gate.mhs.cat_norm, gate.mhs.y_proj, gate.out_norm]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        read = self.norm(x)
        u = F.silu(self.conv(self.to_u(read).permute(0, 3, 1, 2))).flatten(2).mT
        y = self.from_heads(self.scan(self.to_heads(u)))  # (B, L, C)
        return x + y.view(x.shape) * F.silu(self.to_z(read))


def _stack(parts: Iterable[Tensor]) -> Tensor:
    """Join the groups of all heads along the first axis."""
    return torch.cat([part.detach() for part in parts])


def _rates(engine: EngineParts) -> Tensor:
    """(4, N, D), rounded once."""
    exact = -engine.A_logs.detach().double().exp()
    return exact.to(engine.A_logs.dtype).view(4, -1, exact.shape[-1]).mT
