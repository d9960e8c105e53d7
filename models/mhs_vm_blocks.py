"""The blocks of MHS-VM as they are trained; parameter names are those of the public checkpoints.

Axis letters: B batch, C channels, H height, W width, L = H W pixels, G = 4 sequences, D channels of a head,
N states, R rank of the step size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mhs_vm_deploy import FusedBlock, gated_sum
from .mhs_vm_routes import routes
from .scan import initialise_steps, selective_scan


@dataclass(frozen=True)
class MhsVmConfig:
    """Sizes of one member of the family."""

    patterns: str
    """One letter per head."""
    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    decoder_depths: tuple[int, ...] = (2, 2, 2, 1)
    size: int = 256
    """Pixels per side, a multiple of the patch and of 2 per level; the network takes no other size."""
    patch: int = 4
    states: int = 16
    threshold: float = 0.5
    channels: int = 3
    classes: int = 1

    def side(self, level: int) -> int:
        """Height and width of the map at a level."""
        return self.size // self.patch // 2**level


class Engine(nn.Module):
    """The state-space model of one head, with weights of its own for each sequence."""

    def __init__(self, dim: int, states: int) -> None:
        super().__init__()
        rank = math.ceil(dim / 16)
        self.x_proj_weight = nn.Parameter(torch.empty(4, rank + 2 * states, dim))
        steps = [nn.Linear(rank, dim) for _ in range(4)]
        for weight, linear in zip(self.x_proj_weight, steps, strict=True):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            initialise_steps(linear)
        self.dt_projs_weight = nn.Parameter(torch.stack([s.weight.detach() for s in steps]))
        self.dt_projs_bias = nn.Parameter(torch.stack([s.bias.detach() for s in steps]))
        self.A_logs = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(4 * dim, 1))
        self.Ds = nn.Parameter(torch.ones(4 * dim))
        self.sizes = (rank, states, states)

    def forward(self, u: Tensor) -> Tensor:
        """(L, B, G, D) to the same shape."""
        parts = torch.einsum("lbgd,ged->lbge", u, self.x_proj_weight)
        dt, b, c = torch.split(parts, list(self.sizes), dim=-1)
        dt = F.softplus(torch.einsum("lbgr,gdr->lbgd", dt, self.dt_projs_weight) + self.dt_projs_bias)
        a = -self.A_logs.exp().view(4, u.shape[-1], -1).mT
        return selective_scan(dt * u, dt, a, b, c) + self.Ds.view(4, -1) * u


class Scanning(nn.Module):
    """Reads a map along the four sequences of a pattern."""

    order: Tensor
    """(G, L): the pixel read at each step."""

    def __init__(self, pattern: str, side: int, engine: Engine) -> None:
        super().__init__()
        self.seq2seq_engine = engine
        self.register_buffer("order", routes(pattern, side, side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, D) to (L, B, G, D), with pixels in rows."""
        read = torch.stack([x[order] for order in self.order.unbind()], dim=2)
        y = self.seq2seq_engine(read).unbind(2)
        return torch.stack(
            [k[order.argsort()] for k, order in zip(y, self.order.unbind(), strict=True)], dim=2
        )


class ScanHead(nn.Module):
    """One head; the public checkpoints have its engine under two names."""

    def __init__(self, pattern: str, side: int, dim: int, states: int, threshold: float) -> None:
        super().__init__()
        self.mambaeng = Engine(dim, states)
        self.scanning = Scanning(pattern, side, self.mambaeng)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, D) to the same shape."""
        return gated_sum(self.scanning(x), 2, self.threshold)


class MultiHeadScan(nn.Module):
    """All heads, each in its own subspace; public checkpoints have the splitting weight under two names."""

    def __init__(self, dim: int, side: int, config: MhsVmConfig) -> None:
        super().__init__()
        self.patterns = config.patterns
        width = dim // len(config.patterns)
        self.x_ssproj = nn.Linear(dim, dim, bias=False)
        self.x_ssproj_W = self.x_ssproj.weight
        for pattern in config.patterns:
            head = ScanHead(pattern, side, width, config.states, config.threshold)
            self.add_module(f"scanhead_{pattern}", head)
        self.cat_norm = nn.LayerNorm(dim)
        self.y_proj = nn.Linear(dim, dim, bias=False)

    def heads(self) -> list[ScanHead]:
        """List the heads in the order of their channels."""
        return [cast("ScanHead", self.get_submodule(f"scanhead_{p}")) for p in self.patterns]

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, C) to the same shape."""
        heads = self.heads()
        parts = self.x_ssproj(x).chunk(len(heads), dim=-1)
        read = torch.cat([head(part) for head, part in zip(heads, parts, strict=True)], dim=-1)
        return self.y_proj(self.cat_norm(read))


class GatedScan(nn.Module):
    """Convolve, scan, and gate by the input."""

    def __init__(self, dim: int, side: int, config: MhsVmConfig) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.mhs = MultiHeadScan(dim, side, config)
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv2d(u.permute(0, 3, 1, 2))).flatten(2).permute(2, 0, 1)
        y = self.mhs(u).transpose(0, 1).reshape(x.shape)
        return self.out_norm(y) * F.silu(z)


class Block(nn.Module):
    """A gated scan behind a layer norm, with a residual."""

    def __init__(self, dim: int, side: int, config: MhsVmConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.self_attention = GatedScan(dim, side, config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return x + self.self_attention(self.ln_1(x))

    def fused(self) -> FusedBlock:
        """Run all sequences of all heads as one scan."""
        return FusedBlock(self.ln_1, self.self_attention).eval()
