import numpy as np
import pytest

RULE = "attention_to_matmul"
MASK = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
SEEN = np.tri(7, dtype=bool)


def heads(size: int = 8, count: int = 3) -> str:
    """Queries, keys and values of four axes, each with its own weights, from x (batch, 7, 24)."""
    split = f"s = Constant<value_ints=[0, 0, {count}, {size}]>()"
    one = "m{0} = MatMul(x, w{0}) r{0} = Reshape(m{0}, s) {0} = Transpose<perm=[0, 2, 1, 3]>(r{0})"
    return " ".join([split, *(one.format(name) for name in "qkv")])


WEIGHTS = {f"w{name}": (24, 24) for name in "qkv"}
TOKENS = {"x": "batch, 7, 24", "y": "float[batch, 3, 7, 8] y"}
FLAT = {"x": "batch, 7, 24", "y": "float[batch, 7, 24] y"}
THREE = "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)"


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize(
    ("attention", "more"),
    [
        ("Attention(q, k, v)", {}),
        ("Attention<scale=0.7>(q, k, v)", {}),
        ("Attention<is_causal=1>(q, k, v)", {}),
        ("Attention(q, k, v, a)", {"a": MASK}),
        ("Attention(q, k, v, a)", {"a": SEEN}),
        ("Attention<is_causal=1>(q, k, v, a)", {"a": MASK}),
    ],
)
def test_four_axes_become_products(apply, opset, attention, more) -> None:
    found = apply(RULE, f"{heads()} y = {attention}", opset=opset, **TOKENS, **WEIGHTS, **more)
    assert "Attention" not in found.operators
    assert found.operators.count("MatMul") == 5
    assert found.operators.count("Softmax") == 1
    assert not found.reasons


@pytest.mark.parametrize(
    "attention", ["Attention<q_num_heads=3, kv_num_heads=3>", "Attention<q_num_heads=1, kv_num_heads=1>"]
)
def test_three_axes_are_split_into_heads_and_joined(apply, attention) -> None:
    found = apply(RULE, f"{THREE} y = {attention}(q, k, v)", opset=23, **FLAT, **WEIGHTS)
    assert "Attention" not in found.operators
    assert found.exported.history[-1].changed == 1


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        ("y = Attention<softcap=2.0>(q, k, v)", "its scores are capped"),
        ("y, a, b = Attention(q, k, v, , p, p)", "continues keys and values of an earlier call"),
        ("n, a, b, c = Attention(q, k, v) y = Add(n, r)  e = Relu(c)", "keys, values or scores are read"),
        ("g = Slice(k, zero, one, one) h = Slice(v, zero, one, one) y = Attention(q, g, h)", "heads share"),
    ],
)
def test_what_stays_says_why(apply, attention, reason) -> None:
    more = {"p": (1, 3, 2, 8), "zero": np.array([0]), "one": np.array([1]), "r": (1,)}
    if "p, p" in attention:
        attention = f"e = Expand(p, z) {attention.replace('p, p', 'e, e')}"
        attention = f"b0 = Shape<start=0, end=1>(x) z = Concat<axis=0>(b0, t) {attention}"
        more["t"] = np.array([3, 2, 8])
    found = apply(RULE, f"{heads()} {attention}", opset=23, **TOKENS, **WEIGHTS, **more)
    assert "Attention" in found.operators
    assert reason in found.reasons
