"""Normalizations, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


X = normal(2, 3, 4, 5)
PICTURE = normal(2, 4, 9, 8, seed=3)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "layer": (
        "y = LayerNormalization<axis=-1, epsilon=0.001>(x, A, C)",
        {"x": X, "A": normal(5), "C": normal(5, seed=4)},
    ),
    "layer_two_axes": ("y = LayerNormalization<axis=2>(x, A)", {"x": X, "A": normal(4, 5)}),
    "layer_row": ("y = LayerNormalization<axis=2>(x, A, C)", {"x": X, "A": normal(5), "C": normal(1, 5)}),
    "layer_computed": ("y = LayerNormalization(x, a)", {"x": X, "a": normal(5)}),
    "instance": ("y = InstanceNormalization(x, A, C)", {"x": X, "A": normal(3), "C": normal(3, seed=4)}),
    "batch": (
        "y = BatchNormalization<epsilon=0.01>(x, A, C, M, V)",
        {"x": X, "A": normal(3), "C": normal(3, seed=1), "M": normal(3, seed=2), "V": positive(3)},
    ),
    "batch_rows": (
        "y = BatchNormalization(x, A, C, M, V)",
        {
            "x": normal(4, 3),
            "A": normal(3),
            "C": normal(3, seed=1),
            "M": normal(3, seed=2),
            "V": positive(3),
        },
    ),
    "group_old": (
        "y = GroupNormalization<num_groups=2>(x, A, C)",
        {"x": PICTURE, "A": normal(2), "C": normal(2, seed=4)},
    ),
    "lp": ("y = LpNormalization<axis=1, p=2>(x)", {"x": X}),
    "lp_one": ("y = LpNormalization<axis=-1, p=1>(x)", {"x": X}),
    "lp_of_nothing": ("y = LpNormalization<axis=1, p=2>(x)", {"x": X * np.float32([0, 1, 1, 0, 1])}),
    "mean_variance": ("y = MeanVarianceNormalization(x)", {"x": X}),
    "layer_by_hand": (
        "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) "
        "e = Add(v, E) s = Sqrt(e) n = Div(d, s) g = Mul(n, A) y = Add(g, C)".replace(
            "<axes=[-1]>(x)", "(x, AX)"
        ).replace("<axes=[-1]>(q)", "(q, AX)"),
        {"x": X, "E": np.float32(1e-5), "A": normal(5), "C": normal(5, seed=3), "AX": ints(-1)},
    ),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
