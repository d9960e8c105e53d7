"""Every node has its place and its reason; shared kernels are seen however they were written."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from fourfold.export.artifact import Exported
from fourfold.runtimes.optical4f.partition import Partition, partition

Build = Callable[..., Exported]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def split(build: Build, body: str, inputs: str, weights: Mapping[str, np.ndarray]) -> Partition:
    text = f'<ir_version: 10, opset_import: ["": 20]> net ({inputs}) => (float[N] y) {{ {body} }}'
    return partition(build(text, {}, golden=False, **weights).model)


def only(parts: Partition) -> tuple[bool, str]:
    return parts.placements[-1].optical, parts.placements[-1].reason


IMAGE = "float[batch, 4, 8, 8] x"


@pytest.mark.parametrize(
    ("body", "shape", "reason"),
    [
        ("y = Conv(x, w)", (4, 4, 1, 1), "a kernel of one pixel needs no lens"),
        ("y = Conv(x, w)", (4, 4, 3, 3, 3), "a convolution in 3 dimensions: a plane has two"),
        ("y = ConvTranspose(x, w)", (4, 4, 3, 3), "mostly dark pixels"),
        ("k = Mul(x, w) y = Conv(x, k)", (4, 4, 8, 8), "its kernel depends on the data"),
        ("y = MatMul(x, x)", (1,), "a product of two tensors that depend on the data"),
        ("y = MatMul(w, x)", (8, 8), "its constant stands on the left"),
        ("y = MatMul(x, w)", (4, 8, 8), "its weights have 3 dimensions"),
        ("y = Gemm<transA = 1>(x, w)", (8, 8), "it mixes samples"),
        ("y = Gemm(x, x)", (1,), "a product of two tensors that depend on the data"),
        ("y = Softmax(x)", (1,), "not linear"),
        ("y = Add(x, x)", (1,), "one operation a pixel"),
        ("y = LayerNormalization(x, w)", (8,), "divides by statistics"),
        ("y = GlobalAveragePool(x)", (1,), "sums of few numbers"),
        ("y = Transpose(x)", (1,), "moves data and computes nothing"),
        ("y = DFT(x)", (1,), "the camera sees no phase"),
        ("y = NonMaxSuppression(x, x)", (1,), "is no convolution with a fixed kernel"),
    ],
)
def test_what_stays_electronic_says_why(build: Build, body: str, shape: tuple[int, ...], reason: str) -> None:
    optical, said = only(split(build, body, IMAGE, {"w": normal(*shape)}))
    assert not optical
    assert reason in said


@pytest.mark.parametrize("operator", ["Conv", "MatMul"])
@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_kernels_of_other_numbers_stay_electronic(build: Build, operator: str, kind: str) -> None:
    shape = (2, 4, 3, 3) if operator == "Conv" else (8, 3)
    weights = {"w": normal(*shape).astype(kind)}
    optical, said = only(split(build, f"y = {operator}(x, w)", IMAGE, weights))
    assert not optical
    assert f"its weights are {kind}" in said


def test_every_node_has_a_reason(build: Build) -> None:
    body = "a = Conv(x, w) b = Relu(a) c = Flatten(b) y = MatMul(c, v)"
    parts = split(build, body, IMAGE, {"w": normal(2, 4, 3, 3), "v": normal(72, 5)})
    assert [p.operator for p in parts.placements] == ["Conv", "Relu", "Flatten", "MatMul"]
    assert [p.optical for p in parts.placements] == [True, False, False, True]
    assert all(p.reason for p in parts.placements)
    assert list(parts.lowered) == ["a", "y"]
    assert parts.lowered["a"].layer.signed_input
    assert not parts.lowered["y"].layer.signed_input


def test_means_written_as_a_product_are_a_pooling(build: Build) -> None:
    weighted = np.array([[2 / 3, 0], [1 / 3, 1 / 3], [0, 2 / 3]], np.float32)
    halves = np.array([[0.5, 0], [0.5, 0.5], [0, 0.5]], np.float32)
    nearly = halves * np.array([1, 1 + 1e-4], np.float32)
    empty = np.array([[1, 0], [0, 0]], np.float32)
    for weights, optical in ((halves, False), (weighted, True), (nearly, True), (empty, True)):
        placed, said = only(split(build, "y = MatMul(x, w)", IMAGE, {"w": weights}))
        assert placed == optical
        assert ("a pooling written as a product" in said) != optical
    whole = np.full((8, 2), 1 / 8, np.float32)
    assert not only(split(build, "y = Gemm(x, w)", IMAGE, {"w": whole}))[0]


ONE = normal(1, 1, 3, 3)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Conv<group = 4>(x, w)", {"w": np.concatenate([ONE] * 4)}),
        ("k = Expand(w, s) y = Conv<group = 4>(x, k)", {"w": ONE, "s": np.array([4, 1, 3, 3])}),
        ("k = Tile(w, s) y = Conv<group = 4>(x, k)", {"w": ONE, "s": np.array([4, 1, 1, 1])}),
        ("k = Concat<axis = 0>(w, w, w, w) y = Conv<group = 4>(x, k)", {"w": ONE}),
        (
            "e = Expand(w, s) k = Reshape(e, r) y = Conv<group = 4>(x, k)",
            {"w": ONE[0], "s": np.array([4, 3, 3]), "r": np.array([4, 1, 3, 3])},
        ),
    ],
    ids=["written out", "expanded", "tiled", "concatenated", "expanded and reshaped"],
)
def test_one_kernel_for_all_channels_is_seen(
    build: Build, body: str, weights: Mapping[str, np.ndarray]
) -> None:
    lowered = split(build, body, IMAGE, weights).lowered["y"]
    assert (lowered.layer.groups, lowered.layer.shared) == (1, 4)
    np.testing.assert_array_equal(lowered.kernels[0, 0, 0], ONE[0, 0])


def test_channels_as_samples_are_pictures_of_one_kernel(build: Build) -> None:
    body = "r = Reshape(x, s) c = Conv(r, w) y = Reshape(c, t)"
    shapes = {"s": np.array([-1, 1, 8, 8]), "t": np.array([-1, 4, 6, 6])}
    lowered = split(build, body, IMAGE, {"w": ONE, **shapes}).lowered["c"]
    assert (lowered.layer.groups, lowered.layer.channels, lowered.layer.kernels) == (1, 1, 1)


def test_a_gemm_takes_its_factors_and_its_bias_along(build: Build) -> None:
    weights = {"w": normal(5, 8), "b": normal(5)}
    body = "y = Gemm<alpha = 2.0, beta = 0.5, transB = 1>(x, w, b)"
    lowered = split(build, body, "float[batch, 8] x", weights).lowered["y"]
    np.testing.assert_allclose(lowered.kernels.reshape(5, 8), 2 * weights["w"])
    np.testing.assert_allclose(np.asarray(lowered.bias), weights["b"] / 2)


@pytest.mark.parametrize(
    ("auto", "pads"), [("SAME_UPPER", (0, 1, 1, 2)), ("SAME_LOWER", (1, 2, 0, 1)), ("VALID", (0, 0, 0, 0))]
)
def test_old_names_of_paddings_are_numbers(build: Build, auto: str, pads: tuple[int, ...]) -> None:
    parts = split(build, f'y = Conv<auto_pad = "{auto}">(x, w)', IMAGE, {"w": normal(2, 4, 2, 4)})
    assert parts.lowered["y"].layer.pads == pads


def test_a_padding_that_depends_on_a_free_size_stays_electronic(build: Build) -> None:
    body = 'y = Conv<auto_pad = "SAME_UPPER">(x, w)'
    optical, said = only(split(build, body, "float[batch, 4, H, 8] x", {"w": normal(2, 4, 3, 3)}))
    assert not optical
    assert "which is free" in said
