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
    """All sequences of all heads, (L, B, C) to the same shape."""

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
    """(G, 1, N, D): the decay rates."""
    skip: Tensor
    """(G, 1, D)."""

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
        self.register_buffer("rates", _stack(_rates(engine) for engine in engines).unsqueeze(1))
        self.register_buffer("skip", _stack(engine.Ds.view(4, 1, -1) for engine in engines))

    def _remember(self, order: Tensor) -> None:
        heads, each, length = order.shape
        start = torch.arange(heads)[:, None, None] * length
        self.register_buffer("there", (order + start).flatten())
        group = torch.arange(heads * each).view(heads, each, 1)
        self.register_buffer("back", (order.argsort(dim=-1) * heads * each + group).flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, C) to the same shape."""
        length, batch, channels = x.shape
        heads = x.reshape(length, batch, self.count, -1).permute(2, 0, 1, 3).flatten(0, 1)  # (M L, B, D)
        u = heads.index_select(0, self.there).reshape(4 * self.count, -1, heads.shape[-1])  # (G, L B, D)
        dt = softplus(torch.bmm(torch.bmm(u, self.to_rank), self.to_step) + self.bias)
        b, c = torch.bmm(u, self.to_b), torch.bmm(u, self.to_c)
        steps = [t.reshape(len(t), length, -1, t.shape[-1]).transpose(0, 1) for t in (dt * u, dt, b, c, u)]
        driven, dt, b, c, u = steps  # (L, G, B, .)
        y = selective_scan(driven, dt, self.rates, b, c) + self.skip * u
        y = y.flatten(0, 1).index_select(0, self.back)
        y = gated_sum(y.reshape(self.count, 4, length, -1, y.shape[-1]), 1, self.threshold)
        return y.permute(1, 2, 0, 3).reshape(length, -1, channels)


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
        u = F.silu(self.conv(self.to_u(read).permute(0, 3, 1, 2))).flatten(2).permute(2, 0, 1)
        y = self.from_heads(self.scan(self.to_heads(u)))  # (L, B, C)
        return x + y.transpose(0, 1).reshape(x.shape) * F.silu(self.to_z(read))


def _stack(parts: Iterable[Tensor]) -> Tensor:
    """Join the groups of all heads along the first axis."""
    return torch.cat([part.detach() for part in parts])


def _rates(engine: EngineParts) -> Tensor:
    """(4, N, D), rounded once."""
    exact = -engine.A_logs.detach().double().exp()
    return exact.to(engine.A_logs.dtype).view(4, -1, exact.shape[-1]).mT
