"""The deploy form of RSMamba: tokens first, everything that allows it once for all three paths.

Axis letters: B batch, C channels, H height, W width, L tokens, D width of a token, I inner width, N states,
R rank of the step size, T taps of the convolution, K classes, P = 3 paths.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import split_linear
from .scan import selective_scan, softplus


class MixerParts(Protocol):
    """What the deploy form takes from a mixer."""

    in_proj: nn.Linear
    conv1d: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    D: nn.Parameter
    out_proj: nn.Linear
    sizes: tuple[int, int, int]


class FusedLayer(nn.Module):
    """One layer along three paths, (L, B, D) to the same shape."""

    there: Tensor
    """(L P,): the token that each path reads at each step."""
    back: Tensor
    """(L P,): where each path left each token, in (L P)."""
    taps: Tensor
    """(I, 1, T, 1): the causal convolution."""
    bias: Tensor
    """(I,): of the convolution."""
    rates: Tensor
    """(N, I): the decay rates."""
    gates: Tensor
    """(P, I, P): from the mean of each path to the gates."""

    def __init__(self, norm: nn.LayerNorm, mixer: MixerParts, gate: nn.Linear, order: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.to_u, self.to_z = split_linear(mixer.in_proj, (mixer.D.numel(),) * 2)
        self.to_rank, self.to_b, self.to_c = split_linear(mixer.x_proj, mixer.sizes)
        self.dt_proj, self.out_proj = mixer.dt_proj, mixer.out_proj
        self.skip = mixer.D
        paths = order.shape[1]
        self.register_buffer("there", order.flatten())
        self.register_buffer("back", (order.argsort(dim=0) * paths + torch.arange(paths)).flatten())
        self.register_buffer("bias", mixer.conv1d.get_parameter("bias").detach().clone())
        self.register_buffer("taps", mixer.conv1d.weight.detach().unsqueeze(-1).clone())
        self.register_buffer(
            "rates", -mixer.A_log.detach().double().exp().mT.to(mixer.A_log.dtype).contiguous()
        )
        self.register_buffer("gates", _joined_gates(gate, mixer.out_proj, paths))

    def forward(self, x: Tensor) -> Tensor:
        """(L, B, D) to the same shape."""
        x_norm = self.norm(x)
        u = self.to_u(x_norm)
        apart = (len(x), -1, *u.shape[1:])
        u = u.index_select(0, self.there).reshape(apart)  # (L, P, B, I)
        y = self.mixed(u).flatten(0, 1).index_select(0, self.back).reshape(apart)
        y = y * F.silu(self.to_z(x_norm)).unsqueeze(1)
        gate = torch.einsum("pbi,piq->bq", y.mean(dim=0), self.gates).softmax(-1)  # (B, P)
        return x + self.out_proj((y * gate.mT.unsqueeze(-1)).sum(dim=1))

    def mixed(self, u: Tensor) -> Tensor:
        """Convolve and scan each path, (L, P, B, I) to the same shape."""
        u = F.silu(self.convolved(u))
        dt = softplus(self.dt_proj(self.to_rank(u)))
        return selective_scan(dt * u, dt, self.rates, self.to_b(u), self.to_c(u)) + self.skip * u

    def convolved(self, u: Tensor) -> Tensor:
        """Convolve over the first axis, each step seeing itself and those before.

        Written over images of L by P pixels, since engines have the convolution of an image.
        """
        # Contiguous, or torch asks strides, and thereby the batch size, for the layout to convolve in.
        images = u.permute(2, 3, 0, 1).contiguous()  # (B, I, L, P)
        padded = F.pad(images, (0, 0, self.taps.shape[2] - 1, 0))
        return F.conv2d(padded, self.taps, self.bias, groups=len(self.bias)).permute(2, 3, 0, 1).contiguous()


class FusedRsMamba(nn.Module):
    """The whole network with tokens as the first axis."""

    position: Tensor
    """(L, 1, D)."""

    def __init__(
        self,
        patches: nn.Module,
        position: Tensor,
        layers: list[FusedLayer],
        token_norm: nn.LayerNorm,
        norm: nn.LayerNorm,
        head: nn.Linear,
    ) -> None:
        super().__init__()
        self.patches = patches
        self.register_buffer("position", position.detach().transpose(0, 1).contiguous())
        self.layers = nn.Sequential(*layers)
        self.token_norm, self.norm, self.head = token_norm, norm, head

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        tokens = self.patches(x).transpose(0, 1) + self.position
        return self.head(self.norm(self.token_norm(self.layers(tokens)).mean(dim=0)))


def _joined_gates(gate: nn.Linear, out: nn.Linear, paths: int) -> Tensor:
    """Join the output layer (D, I) and each path's part of the gate (Q, P D): (P, I, Q)."""
    parts = gate.weight.detach().double().reshape(gate.out_features, paths, -1)
    joined = torch.einsum("qpd,di->piq", parts, out.weight.detach().double())
    return joined.to(gate.weight.dtype)
