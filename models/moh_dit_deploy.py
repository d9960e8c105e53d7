"""The arithmetic of MoH-DiT's attention and its two deploy forms.

Axis letters: B batch, C width of a token, N tokens, A heads (S shared, R routed), D width of a head, M tiles,
T slots of a tile.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .fuse_modules import linear_of
from .routing import JointGate, gather_back, head_weights, take_groups, take_rows, tile_up


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T) v, head by head; q carries the scale. (B, N, A D) each to (B, N, A, D)."""
    q, k, v = (t.reshape(-1, t.shape[1], heads, t.shape[2] // heads).transpose(1, 2) for t in (q, k, v))
    return ((q @ k.transpose(-2, -1)).softmax(dim=-1) @ v).transpose(1, 2)


def weigh(mixed: Tensor, weights: Tensor) -> Tensor:
    """Weigh the heads (B, N, A, D) by (B, N, A): (B, N, A D)."""
    return (mixed * weights.unsqueeze(-1)).flatten(2)


class Layers(NamedTuple):
    """The linear layers of a deployed attention."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    proj: nn.Linear


class FusedAttention(nn.Module):
    """The dense form: every head for every token."""

    def __init__(self, gate: JointGate, layers: Layers) -> None:
        super().__init__()
        self.gate = gate
        self.q, self.k, self.v, self.proj = layers

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        mixed = attend(self.q(x), self.k(x), self.v(x), self.gate.plan.heads)
        return self.proj(weigh(mixed, head_weights(self.gate(x), self.gate.plan)))


class SkippingAttention(nn.Module):
    """The form in tiles: a routed head is computed for the tokens that select it, and for no other."""

    head_q: Tensor
    head_q_bias: Tensor
    head_proj: Tensor

    def __init__(self, gate: JointGate, layers: Layers, tile: int) -> None:
        super().__init__()
        plan, width = gate.plan, layers.q.out_features // gate.plan.heads
        cut = plan.shared * width
        self.gate, self.tile, self.width = gate, tile, width
        self.k, self.v = layers.k, layers.v
        weight, bias = layers.q.weight.detach(), layers.q.bias.detach()
        self.q = linear_of(weight[:cut].clone(), bias[:cut].clone())
        by_head = weight[cut:].reshape(plan.routed, width, -1).transpose(1, 2).contiguous()
        self.register_buffer("head_q", by_head)
        self.register_buffer("head_q_bias", bias[cut:].reshape(plan.routed, 1, width).clone())
        weight = layers.proj.weight.detach()
        self.proj = linear_of(weight[:, :cut].clone(), layers.proj.bias.detach().clone())
        self.register_buffer("head_proj", weight[:, cut:].T.reshape(plan.routed, width, -1).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        selection, k, v = self.gate(x), self.k(x), self.v(x)
        plan, cut = self.gate.plan, self.q.out_features
        assert selection.chosen is not None
        assert selection.kept is not None
        shared = attend(self.q(x), k[..., :cut], v[..., :cut], plan.shared)
        tiles = tile_up(selection.chosen, plan.routed, self.tile)
        weights, back = take_groups(self.head_q, tiles.group), take_groups(self.head_proj, tiles.group)
        q = take_rows(x, tiles.token) @ weights + take_groups(self.head_q_bias, tiles.group)
        keys, values = (self._of_head(t[..., cut:], tiles.group) for t in (k, v))
        routed = (q @ keys.transpose(-2, -1)).softmax(dim=-1) @ values @ back  # (B, M, T, C)
        return self.proj(weigh(shared, selection.shared)) + gather_back(routed, tiles, selection.kept)

    def _of_head(self, x: Tensor, group: Tensor) -> Tensor:
        """Give each tile its head's keys or values: (B, N, R D) and (B, M) to (B, M, N, D)."""
        by_head = x.reshape(-1, x.shape[1], self.gate.plan.routed, self.width).transpose(1, 2).flatten(2)
        return take_rows(by_head, group).reshape(-1, group.shape[1], x.shape[1], self.width)
