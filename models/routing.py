"""Routing: which heads or experts a token selects, and computing only those.

Mixture of heads (MoH, arXiv 2410.11842). Of H heads the first S are shared by all tokens, the other R = H - S
are routed: each token keeps the K best of them. With x a token::

    a = S softmax(x W1)                               weights of the shared heads; 1 if S = 1
    g = K softmax(x Wg) kept / sum of the kept        weights of the routed heads; 0 if not kept
    (p, q) = 2 softmax(x W0)
    y = sum_h w_h head_h(x) Wproj_h,  w = [p a, q g]  w = a if no head is routed

The dense form computes all heads and multiplies by w. The form in tiles computes a pair of token and group
(head or expert) only if the token selected the group. As every token selects exactly K groups, there are N K
pairs, however they are spread. They are sorted by group into tiles of T slots, a group's last tile being
filled up with tokens whose answers nobody reads, so that

    M = floor((N K + G (T - 1)) / T)

tiles hold any routing: all shapes are constant and no pair is ever dropped. Keys and values of a head are
shared by all tokens, so what a token saves by not selecting a head is its query, its row of attention and its
part of the output product, not the head's keys and values. Multiplications are saved everywhere, time only
where heads are wide and a token leaves most of them out; ``benchmarks/head_skipping.py`` measures it. No head
is left out by all tokens of a picture there, so whole heads cannot be skipped instead.

Axis letters: B batch, N tokens, C channels, H heads, S shared heads, R routed heads, D = width of a head,
K selections of a token, G groups, M tiles, T slots of a tile, E entries of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BuildError
from .fuse_modules import linear_of

Gates = tuple[nn.Linear | None, ...]
"""W0, W1 and Wg; None where there is no such gate."""


@dataclass(frozen=True)
class HeadPlan:
    """How many heads there are, how many of them are shared, and how many routed ones a token keeps."""

    heads: int
    shared: int
    top_k: int

    def __post_init__(self) -> None:
        """Refuse a plan that selects more heads than are routed, or routes heads that nobody can select."""
        possible = self.heads > 1 and 1 <= self.shared <= self.heads
        if not possible or not min(1, self.routed) <= self.top_k <= self.routed:
            message = (
                f"expected two heads or more, some shared and a selection among the rest, got {self.shared} "
                f"shared and {self.top_k} selected of {self.heads} heads; change the plan"
            )
            raise BuildError(message)

    @property
    def routed(self) -> int:
        """Number of heads that a token may leave out."""
        return self.heads - self.shared

    @property
    def gate_sizes(self) -> tuple[int, int, int]:
        """Outputs of the gates W0, W1 and Wg; 0 where there is no such gate."""
        return 2 if self.routed else 0, self.shared if self.shared > 1 else 0, self.routed

    def gates(self, dim: int) -> Gates:
        """Make the gates W0, W1 and Wg for tokens of ``dim`` channels."""
        return tuple(nn.Linear(dim, size, bias=False) if size else None for size in self.gate_sizes)


class Selection(NamedTuple):
    """What a token's gates say."""

    shared: Tensor
    """(B, N, S) weights."""
    chosen: Tensor | None
    """(B, N, K) numbers of the routed heads kept, from 0; None if no head is routed."""
    kept: Tensor | None
    """(B, N, K) their weights."""


def select_heads(
    plan: HeadPlan, blend: Tensor | None, shared: Tensor | None, routed: Tensor | None
) -> Selection:
    """Turn the outputs of the gates into weights of heads.

    Args:
        plan: How heads are shared.
        blend: (B, N, 2) = x W0.
        shared: (B, N, S) = x W1.
        routed: (B, N, R) = x Wg.
    """
    own = None if shared is None else plan.shared * shared.softmax(dim=-1)
    if blend is None or routed is None:
        assert own is not None, "a plan without routed heads has two shared ones or more"
        return Selection(own, None, None)
    first, second = (2 * blend.softmax(dim=-1)).chunk(2, dim=-1)
    best, chosen = routed.softmax(dim=-1).topk(plan.top_k, dim=-1)
    kept = plan.top_k * best / best.sum(dim=-1, keepdim=True)
    return Selection(first if own is None else first * own, chosen, second * kept)


def head_weights(selection: Selection, plan: HeadPlan) -> Tensor:
    """Write a selection as one weight per head, zero for heads that are not selected.

    Returns:
        (B, N, H), the shared heads first.
    """
    if selection.chosen is None or selection.kept is None:
        return selection.shared
    routed = spread(selection.chosen, selection.kept, plan.routed)
    return torch.cat([selection.shared, routed], dim=-1)


def weigh_tokens(x: Tensor, plan: HeadPlan, gates: Gates) -> Tensor:
    """Weigh every head for the tokens (B, N, C): (B, N, H)."""
    return head_weights(select_heads(plan, *(None if gate is None else gate(x) for gate in gates)), plan)


class JointGate(nn.Module):
    """All gates of an attention as one linear layer."""

    def __init__(self, plan: HeadPlan, linear: nn.Linear) -> None:
        super().__init__()
        self.plan, self.linear = plan, linear

    def forward(self, x: Tensor) -> Selection:
        """(B, N, C) to the selection of heads."""
        parts = iter(self.linear(x).split([size for size in self.plan.gate_sizes if size], dim=-1))
        return select_heads(self.plan, *(next(parts) if size else None for size in self.plan.gate_sizes))


def join_gates(plan: HeadPlan, gates: Gates) -> JointGate:
    """Stack the gates' weights. Exact."""
    joined = torch.cat([gate.weight.detach() for gate in gates if gate is not None])
    return JointGate(plan, linear_of(joined, joined.new_zeros(len(joined))))


def tile_for(tokens: int) -> int:
    """Choose how many slots a tile has: about a sixth of the tokens, a power of two from 4.

    Fewer slots leave fewer of them empty; more slots share the weights that a tile takes.
    """
    return max(4, 2 ** round(math.log2(tokens / 6)))


def spread(chosen: Tensor, kept: Tensor, groups: int) -> Tensor:
    """Put the weights (B, N, K) of the groups ``chosen`` (B, N, K) into (B, N, G), zeros elsewhere."""
    return (is_group(chosen, groups).to(kept.dtype) * kept.unsqueeze(-1)).sum(dim=2)


def is_group(chosen: Tensor, groups: int) -> Tensor:
    """Compare (B, N, K) with every group: (B, N, K, G) truth values."""
    return chosen.unsqueeze(-1) == torch.arange(groups, device=chosen.device)


class Tiles(NamedTuple):
    """Pairs of token and group, sorted by group into tiles."""

    token: Tensor
    """(B, M, T) the token in each slot."""
    group: Tensor
    """(B, M) the one group of each tile."""
    slot: Tensor
    """(B, N, K) where in the M T slots each selection went."""


def tile_count(tokens: int, top_k: int, groups: int, size: int) -> int:
    """Give the number of tiles that holds any routing: the smaller of two bounds."""
    return min((tokens * top_k + groups * (size - 1)) // size, groups * -(-tokens // size))


def tile_up(chosen: Tensor, groups: int, size: int) -> Tiles:
    """Sort the selections (B, N, K), all different within a token, by group into tiles of ``size`` slots."""
    batch, tokens, top_k = chosen.shape
    count = tile_count(tokens, top_k, groups, size)
    member = is_group(chosen, groups).long().sum(dim=2)  # (B, N, G), 0 or 1
    used = (member.sum(dim=1) + (size - 1)) // size  # (B, G) tiles of each group
    ends = used.cumsum(dim=-1)
    place = ((ends - used) * size).unsqueeze(1) + member.cumsum(dim=1) - member
    slot = place.gather(2, chosen)
    own = torch.arange(tokens, device=chosen.device).unsqueeze(-1) + torch.zeros_like(slot)
    token = slot.new_zeros(batch, count * size).scatter(1, slot.flatten(1), own.flatten(1))
    done = ends.unsqueeze(1) <= torch.arange(count, device=chosen.device).unsqueeze(-1)
    # Tiles that no group uses are the last ones; they repeat the last group.
    group = done.long().sum(dim=-1).clamp(max=groups - 1)
    return Tiles(token.reshape(-1, count, size), group, slot)


def take_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Take rows of each batch entry: (B, L, E) and an index (B, ...) into L give (B, ..., E)."""
    entry = torch.arange(rows.shape[0], device=rows.device) * rows.shape[1]
    return F.embedding(index + entry.reshape(-1, *(1,) * (index.ndim - 1)), rows.flatten(0, 1))


def take_groups(table: Tensor, index: Tensor) -> Tensor:
    """Take what belongs to a group: (G, ...) and numbers (B, M) give (B, M, ...)."""
    return F.embedding(index, table.flatten(1)).reshape(*index.shape, *table.shape[1:])


def gather_back(tiled: Tensor, tiles: Tiles, kept: Tensor) -> Tensor:
    """Sum a token's answers, weighted: answers (B, M, T, C), weights (B, N, K) give (B, N, C)."""
    answers = take_rows(tiled.flatten(1, 2), tiles.slot)  # (B, N, K, C)
    return (kept.unsqueeze(-2) @ answers).squeeze(-2)
