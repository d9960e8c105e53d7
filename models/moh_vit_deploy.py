"""The arithmetic of MoH-ViT's attention, and its dense deploy form.

Local keys are the neighbours of a position. They are reached by slices of a map with a border of zeros, and
products per head are sums over D channels, written as a product with a constant matrix of zeros and ones, so
that tokens stay (B, H, W, C) throughout: no unfolding, no transposes of maps.

Axis letters: B batch, C channels, H height, W width, N = H W tokens, A heads (S shared, R routed), D width of
a head, L neighbours (0 without local attention), P pooled tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .routing import JointGate, head_weights

BLOCKED = -1e4
"""Added to the logit of a neighbour outside the map: its weight is zero in every precision."""


class Pair(NamedTuple):
    """Keys and values, both (B, tokens, A D)."""

    k: Tensor
    v: Tensor


class Terms(NamedTuple):
    """What an attention adds and multiplies that does not depend on its input."""

    embedding: Tensor
    """(A, D) added to the unit queries."""
    scale: Tensor
    """(A, N) of the queries."""
    bias: Tensor
    """(A, N, L + P) of the logits."""
    tokens: Tensor
    """(A, D, L): unit query times this is added to the local weights."""
    offset: Tensor
    """(A, L), added to the local weights too."""


def unit(x: Tensor, heads: int) -> Tensor:
    """Divide each head of (B, N, A D) by its length: (B, N, A, D)."""
    return F.normalize(x.reshape(-1, x.shape[1], heads, x.shape[2] // heads), dim=-1)


def neighbours(x: Tensor, window: int) -> list[Tensor]:
    """Shift (B, H, W, C) to each place of a window, zeros coming in at the border."""
    _, height, width, _ = x.shape
    reach = window // 2
    x = F.pad(x, (0, 0, reach, reach, reach, reach))
    rows = [x[:, i : i + height] for i in range(window)]
    return [row[:, :, j : j + width] for row in rows for j in range(window)]


def neighbour_index(grid: tuple[int, int], window: int) -> Tensor:
    """Number the neighbours of each position: (N, L), N for those outside the map."""
    height, width = grid
    numbers = torch.arange(height * width).reshape(1, height, width, 1) + 1
    found = torch.cat(neighbours(numbers, window), dim=-1).reshape(height * width, -1)
    return torch.where(found == 0, height * width, found - 1)


def head_sums(heads: int, width: int) -> Tensor:
    """Give the matrix (A D, A) that sums the channels of each head."""
    return torch.eye(heads).repeat_interleave(width, dim=0)


class Mixer(nn.Module):
    """Attention of unit queries to their neighbours and to pooled tokens, without parameters of its own.

    Without ``window`` there are no neighbours: plain attention to the second set of keys.
    """

    sums: Tensor

    def __init__(self, heads: int, width: int, grid: tuple[int, int], window: int) -> None:
        super().__init__()
        self.heads, self.width, self.grid, self.window = heads, width, grid, window
        self.register_buffer("sums", head_sums(heads, width), persistent=False)

    def forward(self, q: Tensor, near: Pair | None, far: Pair, terms: Terms) -> Tensor:
        """Attend.

        Args:
            q: (B, N, A D).
            near: Keys and values of the positions themselves, (B, N, A D); None without a window.
            far: Keys and values (B, P, A D).
            terms: Constants.

        Returns:
            (B, N, A, D).
        """
        unit_q = unit(q, self.heads)
        asked = (unit_q + terms.embedding) * terms.scale.transpose(0, 1).unsqueeze(-1)
        logits = asked.transpose(1, 2) @ unit(far.k, self.heads).permute(0, 2, 3, 1)  # (B, A, N, P)
        if near is not None:
            logits = torch.cat([self._near_logits(asked, near.k), logits], dim=-1)
        weights = (logits + terms.bias).softmax(dim=-1)
        far_v = far.v.reshape(-1, far.v.shape[1], self.heads, self.width).transpose(1, 2)
        if near is None:
            return (weights @ far_v).transpose(1, 2)
        local, pooled = weights[..., : self.window**2], weights[..., self.window**2 :]
        local = local + unit_q.transpose(1, 2) @ terms.tokens + terms.offset.unsqueeze(1)
        mixed = (pooled @ far_v).transpose(1, 2)
        return mixed + self._near_sum(local, near.v).reshape(-1, *mixed.shape[1:])

    def _near_logits(self, asked: Tensor, k: Tensor) -> Tensor:
        """(B, N, A, D) queries and (B, N, A D) keys to (B, A, N, L)."""
        maps = [t.reshape(-1, *self.grid, self.sums.shape[0]) for t in (asked, unit(k, self.heads))]
        products = [(maps[0] * shifted) @ self.sums for shifted in neighbours(maps[1], self.window)]
        joined = torch.cat(products, dim=-1).reshape(-1, asked.shape[1], len(products), self.heads)
        return joined.permute(0, 3, 1, 2)

    def _near_sum(self, weights: Tensor, v: Tensor) -> Tensor:
        """(B, A, N, L) weights and (B, N, A D) values to (B, H, W, A D)."""
        shifted = neighbours(v.reshape(-1, *self.grid, v.shape[2]), self.window)
        places = weights.permute(0, 2, 3, 1).reshape(-1, *self.grid, len(shifted) * self.heads)
        first, *rest = zip(places.chunk(len(shifted), dim=-1), shifted, strict=True)
        summed = (first[0] @ self.sums.T) * first[1]
        for place, value in rest:
            summed = summed + (place @ self.sums.T) * value
        return summed


class Pool(nn.Module):
    """Linear layer, GELU, mean over squares of positions, layer norm."""

    def __init__(self, sr: nn.Linear, norm: nn.LayerNorm, grid: tuple[int, int], ratio: int) -> None:
        super().__init__()
        self.sr, self.norm, self.grid, self.ratio = sr, norm, grid, ratio

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, P, C)."""
        return self.norm(mean_squares(F.gelu(self.sr(x)), self.grid, self.ratio))


def mean_squares(x: Tensor, grid: tuple[int, int], ratio: int) -> Tensor:
    """Mean over squares of ratio x ratio positions: (B, N, C) to (B, P, C)."""
    height, width = (side // ratio for side in grid)
    squares = x.reshape(-1, height, ratio, width, ratio, x.shape[2])
    return squares.mean(dim=(2, 4)).reshape(-1, height * width, x.shape[2])


class Layers(NamedTuple):
    """The linear layers of an attention; keys and values apart, so that nothing is split."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    proj: nn.Linear


class FusedAttention(nn.Module):
    """The dense form: every head for every token; what does not depend on the input is constants."""

    embedding: Tensor
    scale: Tensor
    bias: Tensor
    tokens: Tensor
    offset: Tensor

    def __init__(
        self, gate: JointGate, layers: Layers, pool: nn.Module | None, mixer: Mixer, terms: Terms
    ) -> None:
        super().__init__()
        self.gate, self.pool, self.mixer = gate, pool, mixer
        self.q, self.k, self.v, self.proj = layers
        for name, value in terms._asdict().items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        far = x if self.pool is None else self.pool(x)
        near = None if self.pool is None else Pair(self.k(x), self.v(x))
        terms = Terms(self.embedding, self.scale, self.bias, self.tokens, self.offset)
        mixed = self.mixer(self.q(x), near, Pair(self.k(far), self.v(far)), terms)
        weighted = mixed * head_weights(self.gate(x), self.gate.plan).unsqueeze(-1)
        return self.proj(weighted.flatten(2))


class FusedMlp(nn.Module):
    """Gated MLP on maps: its linear layers are 1x1 convolutions, the two halves of the first one apart."""

    def __init__(
        self, *, gate: nn.Conv2d, value: nn.Conv2d, dwconv: nn.Conv2d, fc2: nn.Conv2d, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.gate, self.value, self.dwconv, self.fc2, self.grid = gate, value, dwconv, fc2, grid

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        x = x.transpose(1, 2).reshape(-1, x.shape[2], *self.grid)
        x = self.fc2(F.gelu(self.dwconv(self.gate(x))) * self.value(x))
        return x.flatten(2).transpose(1, 2)


class FusedBlock(nn.Module):
    """x + attend(LN(x)), then x + MLP(LN(x))."""

    def __init__(self, *, norm1: nn.Module, attn: nn.Module, norm2: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm1, attn, norm2, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
