"""Arithmetic, comparison, logic and casts, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(*shape: int, low: int = 0, high: int = 5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape)


def truth(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape) < 0.5


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


X = normal(2, 3, 4, 5)
ROW = normal(5, seed=1)
COLUMN = normal(3, 1, 1, seed=2)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "add": ("y = Add(x, a)", {"x": X, "a": ROW}),
    "sub_constant": ("y = Sub(A, x)", {"x": X, "A": COLUMN}),
    "mul_two_ways": ("y = Mul(x, a)", {"x": normal(2, 1, 5), "a": normal(2, 4, 1, seed=1)}),
    "div": ("y = Div(x, a)", {"x": X, "a": positive(5)}),
    "div_whole": ("y = Div(x, a)", {"x": whole(2, 6, low=-9, high=9), "a": ints(-4, 3, 2, -1, 5, 7)}),
    "div_whole_by_constant": (
        "y = Div(x, A)",
        {"x": whole(2, 6, low=-9, high=9), "A": ints(-4, 3, 2, -1, 5, 7)},
    ),
    "div_constant_by_whole": (
        "y = Div(A, x)",
        {"A": ints(-9, 8, -7, 6, 5, -4), "x": whole(2, 6, low=2, high=5)},
    ),
    "mod": ("y = Mod(x, a)", {"x": whole(2, 4, low=-9, high=9), "a": ints(-4, 3, 2, 5)}),
    "fmod": ("y = Mod<fmod=1>(x, a)", {"x": X, "a": normal(5, seed=7)}),
    "pow_square": ("y = Pow(x, P)", {"x": X, "P": np.float32(2)}),
    "pow_cube": ("y = Pow(x, P)", {"x": X, "P": np.float32(3)}),
    "pow": ("y = Pow(x, a)", {"x": positive(2, 5), "a": ROW}),
    "root": ("y = Pow(x, P)", {"x": positive(2, 5), "P": np.float32(0.5)}),
    "max": ("y = Max(x, a, C)", {"x": X, "a": ROW, "C": COLUMN}),
    "min": ("y = Min(x, a)", {"x": X, "a": ROW}),
    "sum": ("y = Sum(x, a, C)", {"x": X, "a": ROW, "C": COLUMN}),
    "mean": ("y = Mean(x, a, C)", {"x": X, "a": ROW, "C": COLUMN}),
    "equal": ("y = Equal(x, a)", {"x": whole(2, 6), "a": whole(6, seed=1)}),
    "equal_truth": ("y = Equal(x, a)", {"x": truth(2, 6), "a": truth(6, seed=1)}),
    "greater": ("y = Greater(x, a)", {"x": X, "a": ROW}),
    "less_or_equal": ("y = LessOrEqual(x, a)", {"x": whole(2, 6), "a": whole(6, seed=1)}),
    "and": ("y = And(x, a)", {"x": truth(2, 6), "a": truth(6, seed=1)}),
    "xor_not": ("b = Not(x) y = Xor(b, a)", {"x": truth(2, 6), "a": truth(6, seed=1)}),
    "or": ("y = Or(x, a)", {"x": truth(2, 6), "a": truth(6, seed=1)}),
    "where": ("y = Where(c, x, A)", {"c": truth(2, 1, 4, 1), "x": X, "A": ROW}),
    "where_whole": ("y = Where(c, x, A)", {"c": truth(2, 6), "x": whole(2, 6), "A": ints(7)}),
    "is_nan": ("y = IsNaN(x)", {"x": np.array([[1, np.nan, 0]], np.float32)}),
    "cast_to_whole": ("y = Cast<to=7>(x)", {"x": 3 * X}),
    "cast_to_float": ("y = Cast<to=1>(x)", {"x": whole(2, 6)}),
    "cast_to_truth": ("y = Cast<to=9>(x)", {"x": whole(2, 6, high=2)}),
    "cast_truth": ("y = Cast<to=1>(x)", {"x": truth(2, 6)}),
    "half_there_and_back": ("h = Cast<to=10>(x) y = Cast<to=1>(h)", {"x": X}),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
