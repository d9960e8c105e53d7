"""Routing: every selection gets its slot, whatever the routing, and weights follow the formulae."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fourfold.errors import BuildError
from fourfold.models.routing import (
    HeadPlan,
    gather_back,
    head_weights,
    select_heads,
    spread,
    take_groups,
    take_rows,
    tile_count,
    tile_up,
)


def draw(batch: int, tokens: int, top_k: int, groups: int, *, seed: int, skew: float = 0) -> Tensor:
    """Draw different groups for every token; with skew all tokens want the first groups."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, tokens, groups, generator=generator) - skew * torch.arange(groups)
    return scores.topk(top_k, dim=-1).indices


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 19),
    groups=st.integers(1, 7),
    size=st.integers(1, 8),
    data=st.data(),
    skew=st.sampled_from([0.0, 0.1, 5.0]),
)
def test_tiles_hold_every_routing(
    tokens: int, groups: int, size: int, data: st.DataObject, skew: float
) -> None:
    top_k = data.draw(st.integers(1, groups))
    chosen = draw(3, tokens, top_k, groups, seed=data.draw(st.integers(0, 99)), skew=skew)
    tiles = tile_up(chosen, groups, size)
    count = tile_count(tokens, top_k, groups, size)
    assert tiles.token.shape == (3, count, size)
    assert tiles.group.shape == (3, count)
    for b in range(3):
        slots = tiles.slot[b].flatten().tolist()
        assert len(set(slots)) == tokens * top_k, "two selections share a slot"
        for n in range(tokens):
            for j in range(top_k):
                slot = int(tiles.slot[b, n, j])
                assert tiles.token[b].flatten()[slot] == n
                assert tiles.group[b, slot // size] == chosen[b, n, j]


def test_no_fewer_tiles_would_do_for_some_routing() -> None:
    # 3 groups, tiles of 4: groups of 5, 5 and 1 tokens fill 2 + 2 + 1 tiles.
    chosen = torch.tensor([[0, 1]] * 5 + [[2, 0]])[None]
    used = {int(slot) // 4 for slot in tile_up(chosen, 3, 4).slot.flatten()}
    assert len(used) == 5 == tile_count(6, 2, 3, 4)


@pytest.mark.parametrize("skew", [0.0, 5.0])
def test_computing_in_tiles_equals_computing_everything(skew: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 11, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 5, 6, generator=generator, dtype=torch.float64)
    chosen = draw(2, 11, 2, 4, seed=2, skew=skew)
    kept = torch.rand(chosen.shape, generator=generator, dtype=torch.float64)
    tiles = tile_up(chosen, 4, 4)
    tiled = take_rows(x, tiles.token) @ take_groups(weight, tiles.group)
    dense = torch.einsum("bnc,gcd,bng->bnd", x, weight, spread(chosen, kept, 4))
    actual = gather_back(tiled, tiles, kept)
    assert (actual - dense).abs().max() <= 1e-13 * dense.abs().max()


@pytest.mark.parametrize(
    ("plan", "blend", "shared", "routed"),
    [(HeadPlan(6, 2, 3), 2, 2, 4), (HeadPlan(6, 1, 2), 2, 0, 5), (HeadPlan(6, 6, 0), 0, 6, 0)],
)
def test_weights_of_heads_follow_their_formulae(plan: HeadPlan, blend: int, shared: int, routed: int) -> None:
    assert plan.gate_sizes == (blend, shared, routed)
    generator = torch.Generator().manual_seed(4)
    logits = [torch.randn(1, 7, n, generator=generator) if n else None for n in (blend, shared, routed)]
    weights = head_weights(select_heads(plan, *logits), plan)
    assert weights.shape == (1, 7, 6)
    for n in range(7):
        first, second = (1.0, 0.0)
        if logits[0] is not None:
            first, second = (2 * logits[0][0, n].softmax(0)).tolist()
        for h in range(plan.shared):
            share = 1.0 if logits[1] is None else plan.shared * float(logits[1][0, n].softmax(0)[h])
            assert float(weights[0, n, h]) == pytest.approx(first * share, rel=1e-5)
        if logits[2] is None:
            continue
        scores = logits[2][0, n].softmax(0).tolist()
        best = sorted(scores, reverse=True)[: plan.top_k]
        for r, score in enumerate(scores):
            expected = second * plan.top_k * score / sum(best) if score in best else 0.0
            assert float(weights[0, n, plan.shared + r]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("heads", "shared", "top_k"), [(4, 0, 2), (4, 5, 0), (4, 4, 1), (4, 2, 3), (4, 2, 0), (1, 1, 0)]
)
def test_impossible_plans_are_refused(heads: int, shared: int, top_k: int) -> None:
    with pytest.raises(BuildError, match=f"got {shared} shared and {top_k} selected of {heads} heads"):
        HeadPlan(heads, shared, top_k)
