import numpy as np
import pytest

from fourfold.export.rules.dft_to_matmul import _matrix

RULE = "dft_to_matmul"
PAIRS = "batch, 6, 5, 2"


@pytest.mark.parametrize("length", [1, 2, 7, 64])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_every_length_becomes_one_product(apply, length, parts, inverse) -> None:
    body = f"y = DFT<inverse={inverse}>(x, , a)"
    found = apply(RULE, body, x=f"batch, {length}, {parts}", a=np.int64(1))
    assert found.operators == ["Reshape", "MatMul", "Reshape"]


@pytest.mark.parametrize(
    ("opset", "dft", "moved"),
    [
        (17, "DFT<axis=1>(x)", True),
        (17, "DFT<axis=2>(x)", False),
        (19, "DFT(x, n)", True),
        (20, "DFT(x)", False),
        (20, "DFT(x, , a)", True),
        (20, "DFT(x, n, a)", True),
        (20, "DFT<onesided=1>(r, , a)", True),
        (20, "DFT(x, , b)", False),
    ],
)
def test_every_axis_and_both_forms(apply, opset, dft, moved) -> None:
    split = "r = Slice(x, zero, one, last) " if "(r" in dft else ""
    more = {"zero": np.array([0]), "one": np.array([1]), "last": np.array([3])} if split else {}
    more |= {key: np.int64(value) for key, value in {"a": 1, "b": -2, "n": 6}.items() if f" {key}" in dft}
    found = apply(RULE, f"{split}y = {dft}", x=PAIRS, opset=opset, **more)
    assert "DFT" not in found.operators
    assert ("Transpose" in found.operators) == moved
    assert not found.reasons


@pytest.mark.parametrize(
    ("body", "x", "reason"),
    [
        ("y = DFT(x, n)", PAIRS, "cuts or pads"),
        ("y = DFT(x, , a)", "batch, L, 5, 2", "length is not known"),
        ("s = Shape<start=3>(x) c = Squeeze(s) y = DFT(x, , c)", PAIRS, "its axis is not known"),
    ],
)
def test_what_stays_says_why(apply, body, x, reason) -> None:
    found = apply(RULE, body, x=x, n=np.int64(4), a=np.int64(1))
    assert "DFT" in found.operators
    assert reason in found.reasons


def test_a_matrix_of_a_long_transform_is_exact() -> None:
    x = np.random.default_rng(0).normal(size=(1024, 2))
    found = x.reshape(1, -1) @ _matrix(1024, 2, inverse=False, onesided=False).astype(np.float64)
    expected = np.fft.fft(x[:, 0] + 1j * x[:, 1])
    got = found.reshape(1024, 2)
    assert np.abs(got[:, 0] + 1j * got[:, 1] - expected).max() < 1e-6 * np.abs(expected).max()
