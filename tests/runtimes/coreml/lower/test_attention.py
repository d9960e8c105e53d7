"""Attention as one operator, from ONNX text to a saved package that is evaluated; both systems' forms."""

from collections.abc import Callable

import numpy as np
import pytest

from fourfold.export.artifact import Array, Feed

Answers = tuple[Feed, Feed]
Together = Callable[..., Answers]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


Q, K, V = (normal(2, 4, length, 8, seed=seed) for seed, length in ((0, 5), (1, 6), (2, 6)))
FEW = {"q": Q, "k": normal(2, 2, 6, 8, seed=3), "v": normal(2, 2, 6, 8, seed=4)}
FLAT = {"q": normal(2, 5, 12), "k": normal(2, 6, 12, seed=1), "v": normal(2, 6, 12, seed=2)}
ALL = {"q": Q, "k": K, "v": V}
SEEN = np.random.default_rng(5).random((5, 6)) < 0.6
SEEN[0] = True
BLIND = SEEN.copy()
BLIND[3] = False
EACH = np.random.default_rng(6).random((2, 4, 5, 6)) < 0.5
EACH[1, 2, 4] = False
FIRST_HIDDEN = np.ones((6, 6), bool)
FIRST_HIDDEN[:, 0] = False
SQUARE = {"q": normal(2, 4, 6, 8), "k": K, "v": V}

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "plain": ("y = Attention(q, k, v)", ALL),
    "groups": ("y = Attention(q, k, v)", FEW),
    "flat": ("y = Attention<q_num_heads=3, kv_num_heads=3>(q, k, v)", FLAT),
    "scaled": ("y = Attention<scale=0.5>(q, k, v)", ALL),
    "capped": ("y = Attention<softcap=2.0>(q, k, v)", ALL),
    "causal": ("y = Attention<is_causal=1>(q, k, v)", SQUARE),
    "added": ("y = Attention(q, k, v, M)", ALL | {"M": normal(5, 6, seed=7)}),
    "allowed": ("y = Attention(q, k, v, M)", ALL | {"M": SEEN}),
    "blind": ("y = Attention(q, k, v, M)", ALL | {"M": BLIND}),
    "blind_computed": ("y = Attention(q, k, v, m)", ALL | {"m": BLIND}),
    "blind_one_head": ("y = Attention(q, k, v, M)", {n: a[:1] for n, a in ALL.items()} | {"M": EACH[1:]}),
    "blind_each": ("y = Attention(q, k, v, m)", ALL | {"m": EACH}),
    "blind_past": ("y = Attention<is_causal=1>(q, k, v, M)", SQUARE | {"M": FIRST_HIDDEN}),
    "blind_past_computed": ("y = Attention<is_causal=1>(q, k, v, m)", SQUARE | {"m": FIRST_HIDDEN}),
}


@pytest.fixture(scope="module", params=["iOS17", "iOS18"])
def answers(request: pytest.FixtureRequest, together: Together) -> Answers:
    return together(CASES, opset=23, target=request.param)


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
