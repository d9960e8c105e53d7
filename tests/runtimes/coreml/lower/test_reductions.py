"""Reductions, extremes and running sums, from ONNX text to a saved package that is evaluated."""

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

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    f"{name.lower()}{'_kept' if keep else ''}": (
        f"y = {name}<keepdims={keep}>(x, AX)",
        {"x": X, "AX": ints(1, -1)},
    )
    for name in (
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
    )
    for keep in (0, 1)
} | {
    "log_sum": ("y = ReduceLogSum(x, AX)", {"x": positive(2, 3), "AX": ints(1)}),
    "sum_of_all": ("y = ReduceSum<keepdims=0>(x)", {"x": X}),
    "sum_of_none": ("y = ReduceSum<noop_with_empty_axes=1>(x)", {"x": X}),
    "sum_whole": ("y = ReduceSum(x, AX)", {"x": whole(2, 6), "AX": ints(1)}),
    "max_truth_as_whole": ("w = Cast<to=6>(x) y = ReduceMax(w, AX)", {"x": truth(2, 6), "AX": ints(1)}),
    "arg_max": ("y = ArgMax<axis=2, keepdims=0>(x)", {"x": X}),
    "arg_min": ("y = ArgMin<axis=-1>(x)", {"x": X}),
    "top_k": ("y, z = TopK<axis=1>(x, K)", {"x": X, "K": ints(2)}),
    "bottom_k": ("y, z = TopK<largest=0>(x, K)", {"x": X, "K": ints(3)}),
    "cum_sum": ("y = CumSum(x, A)", {"x": X, "A": np.int64(1)}),
    "cum_sum_back": ("y = CumSum<reverse=1, exclusive=1>(x, A)", {"x": X, "A": np.int64(-2)}),
    "six_dimensions": (
        "r = Reshape(x, S) y = ReduceMean<keepdims=0>(r, AX)",
        {"x": normal(2, 16, 3), "S": ints(0, 2, 2, 2, 2, 3), "AX": ints(2, 4)},
    ),
    "size": ("y = Size(X)", {"X": X}),
    "size_used": ("s = Size(x) f = Cast<to=1>(s) y = Div(x, f)", {"x": X}),
    "size_fixed": ("y = Size(x)", {"x": X[0]}),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
