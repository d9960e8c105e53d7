"""The deploy form of MoH-ViT's attention that computes a routed head only for the tokens that select it.

Every constant of the dense form is cut into rows of one head, or of one head and token, and a slot of a tile
takes the rows of its tile's head and of its own token (``routing`` explains the tiles).

Axis letters: B batch, C channels, N tokens, R routed heads, D width of a head, L neighbours, P pooled tokens,
K selections, M tiles, T slots of a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .moh_vit_deploy import FusedAttention, Mixer, Pair, Terms, neighbour_index, unit
from .routing import Tiles, gather_back, take_groups, take_rows, tile_up


class SkippingAttention(nn.Module):
    """The form in tiles: a routed head is computed for the tokens that select it, and for no other.

    Same numbers as the dense form. See ``routing`` for the tiles, and for what is saved: keys and values of
    all heads are still computed.
    """

    def __init__(self, dense: FusedAttention, tile: int) -> None:
        super().__init__()
        plan, width = dense.gate.plan, dense.mixer.width
        cut = plan.shared * width
        self.gate, self.pool, self.tile = dense.gate, dense.pool, tile
        self.k, self.v = dense.k, dense.v
        self.mixer = Mixer(plan.shared, width, dense.mixer.grid, dense.mixer.window).to(dense.bias)
        self.q = _rows(dense.q, cut)
        self.proj = _columns(dense.proj, cut)
        terms = Terms(dense.embedding, dense.scale, dense.bias, dense.tokens, dense.offset)
        for name, value in terms._asdict().items():
            self.register_buffer(f"shared_{name}", value[: plan.shared].clone())
        for name, value in _routed_tables(dense, terms, cut).items():
            self.register_buffer(name, value)
        if dense.pool is not None:
            index = neighbour_index(dense.mixer.grid, dense.mixer.window)
            self.register_buffer("near_index", index.to(dense.bias.device))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        selection = self.gate(x)
        assert selection.chosen is not None
        assert selection.kept is not None
        far = x if self.pool is None else self.pool(x)
        pairs = [] if self.pool is None else [Pair(self.k(x), self.v(x))]
        pairs.append(Pair(self.k(far), self.v(far)))
        cut = self.q.out_features
        mixed = self._shared(x, [Pair(k[..., :cut], v[..., :cut]) for k, v in pairs])
        shared = self.proj((mixed * selection.shared.unsqueeze(-1)).flatten(2))
        tiles = tile_up(selection.chosen, self.gate.plan.routed, self.tile)
        routed = self._routed(x, tiles, [Pair(k[..., cut:], v[..., cut:]) for k, v in pairs])
        return shared + gather_back(routed, tiles, selection.kept)

    def _shared(self, x: Tensor, pairs: list[Pair]) -> Tensor:
        terms = Terms(*(self.get_buffer(f"shared_{name}") for name in Terms._fields))
        return self.mixer(self.q(x), pairs[0] if len(pairs) == 2 else None, pairs[-1], terms)

    def _routed(self, x: Tensor, tiles: Tiles, pairs: list[Pair]) -> Tensor:
        """Attend from every slot with the head of its tile: (B, M, T, C)."""
        group = {name: take_groups(table, tiles.group) for name, table in self._tables("head_")}
        row = tiles.group.unsqueeze(-1) * x.shape[1] + tiles.token  # which of R N pairs of head and token
        unit_q = F.normalize(take_rows(x, tiles.token) @ group["head_q"] + group["head_q_bias"], dim=-1)
        asked = (unit_q + group["head_embedding"]) * F.embedding(row, self.get_buffer("row_scale"))
        far_k, far_v = self._of_head(pairs[-1], tiles)
        logits = asked @ far_k.transpose(-2, -1)  # (B, M, T, P)
        bias = F.embedding(row, self.get_buffer("row_bias"))
        if len(pairs) == 1:
            return (logits + bias).softmax(dim=-1) @ far_v @ group["head_proj"]
        near_k, near_v = self._of_neighbours(pairs[0], tiles)
        near = (near_k @ asked.unsqueeze(-1)).squeeze(-1)  # (B, M, T, L)
        weights = (torch.cat([near, logits], dim=-1) + bias).softmax(dim=-1)
        local, pooled = weights[..., : near.shape[-1]], weights[..., near.shape[-1] :]
        local = local + unit_q @ group["head_tokens"] + group["head_offset"]
        mixed = (local.unsqueeze(-2) @ near_v).squeeze(-2) + pooled @ far_v
        return mixed @ group["head_proj"]

    def _of_head(self, far: Pair, tiles: Tiles) -> Pair:
        """Give each tile its head's pooled unit keys and values, (B, M, P, D) each."""
        heads = self.gate.plan.routed
        size = (*tiles.group.shape[1:], far.v.shape[1], self.mixer.width)
        values = far.v.reshape(-1, far.v.shape[1], heads, self.mixer.width)
        rows = (t.transpose(1, 2).flatten(2) for t in (unit(far.k, heads), values))
        return Pair(*(take_rows(t, tiles.group).reshape(-1, *size) for t in rows))

    def _of_neighbours(self, near: Pair, tiles: Tiles) -> Pair:
        """Give each slot its head's unit keys and values at its token's neighbours, (B, M, T, L, D) each."""
        heads, width = self.gate.plan.routed, self.mixer.width
        place = F.embedding(tiles.token, self.get_buffer("near_index"))
        index = place * heads + tiles.group[..., None, None]
        padded = (F.pad(t, (0, 0, 0, 1)) for t in (unit(near.k, heads).flatten(2), near.v))
        return Pair(*(take_rows(t.reshape(-1, t.shape[1] * heads, width), index) for t in padded))

    def _tables(self, prefix: str) -> list[tuple[str, Tensor]]:
        return [(name, table) for name, table in self.named_buffers() if name.startswith(prefix)]


def _routed_tables(dense: FusedAttention, terms: Terms, cut: int) -> dict[str, Tensor]:
    """Split off what belongs to routed heads: ``head_`` by head (R, ...), ``row_`` by head and token."""
    plan, width = dense.gate.plan, dense.mixer.width
    own = Terms(*(value[plan.shared :] for value in terms))
    q, bias = dense.q.weight.detach()[cut:], dense.q.bias.detach()[cut:]
    proj = dense.proj.weight.detach()[:, cut:]
    tables = {
        "head_q": q.reshape(plan.routed, width, -1).transpose(1, 2),
        "head_q_bias": bias.reshape(plan.routed, 1, width),
        "head_proj": proj.T.reshape(plan.routed, width, -1),
        "head_embedding": own.embedding.unsqueeze(1),
        "head_tokens": own.tokens,
        "head_offset": own.offset.unsqueeze(1),
        "row_scale": own.scale.reshape(-1, 1),
        "row_bias": own.bias.flatten(0, 1),
    }
    return {name: table.contiguous().clone() for name, table in tables.items()}


def _rows(linear: nn.Linear, count: int) -> nn.Linear:
    """Keep the first outputs of a linear layer."""
    made = nn.Linear(linear.in_features, count, device="meta")
    made.weight = nn.Parameter(linear.weight.detach()[:count].clone())
    made.bias = nn.Parameter(linear.bias.detach()[:count].clone())
    return made


def _columns(linear: nn.Linear, count: int) -> nn.Linear:
    """Keep the first inputs of a linear layer."""
    made = nn.Linear(count, linear.out_features, device="meta")
    made.weight = nn.Parameter(linear.weight.detach()[:, :count].clone())
    made.bias = nn.Parameter(linear.bias.detach().clone())
    return made
