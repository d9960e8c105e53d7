"""Slices, gathers and scatters, from ONNX text to a saved package that is evaluated."""

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


X = normal(2, 3, 4, 5)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "slice": ("y = Slice(x, S, E, AX)", {"x": X, "S": ints(1, -3), "E": ints(3, 100), "AX": ints(1, 3)}),
    "slice_steps": (
        "y = Slice(x, S, E, AX, D)",
        {"x": X, "S": ints(0, 1), "E": ints(4, 5), "AX": ints(2, -1), "D": ints(2, 3)},
    ),
    "slice_backwards": (
        "y = Slice(x, S, E, AX, D)",
        {"x": X, "S": ints(-1), "E": ints(-(2**62)), "AX": ints(3), "D": ints(-2)},
    ),
    "slice_to_the_end": (
        "y = Slice(x, S, E)",
        {"x": X, "S": ints(0, 1), "E": ints(2**62, 2**62)},
    ),
    "slice_computed": (
        "y = Slice(x, s, e, AX)",
        {"x": X, "s": ints(1), "e": ints(3), "AX": ints(2)},
    ),
    "gather_one": ("y = Gather<axis=2>(x, I)", {"x": X, "I": np.int64(-1)}),
    "gather_run": ("y = Gather<axis=1>(x, I)", {"x": X, "I": ints(1, 2)}),
    "gather": ("y = Gather<axis=-1>(x, I)", {"x": X, "I": np.array([[4, 0], [-1, 2]])}),
    "gather_computed": ("y = Gather<axis=1>(x, i)", {"x": X, "i": whole(2, 2, low=-3, high=3)}),
    "embedding": ("y = Gather(W, i)", {"i": whole(2, 4), "W": normal(5, 6)}),
    "gather_free": ("y = Gather<axis=0>(x, i)", {"x": X, "i": ints(1, -1, 0)}),
    "gather_truth": ("y = Gather<axis=1>(x, I)", {"x": truth(2, 5), "I": ints(4, 0)}),
    "gather_elements": (
        "y = GatherElements<axis=2>(x, i)",
        {"x": normal(2, 3, 4), "i": whole(2, 3, 2, low=-4, high=4)},
    ),
    "gather_elements_fewer": (
        "y = GatherElements<axis=2>(x, I)",
        {"x": normal(2, 3, 4), "I": whole(2, 2, 3)[:, :, :] % 4},
    ),
    "gather_nd": ("y = GatherND(x, I)", {"x": X, "I": np.array([[[0, 1], [1, -1]]])}),
    "gather_nd_batch": (
        "y = GatherND<batch_dims=1>(x, i)",
        {"x": normal(2, 3, 4), "i": whole(2, 5, 1, low=-3, high=3)},
    ),
    "scatter_elements": (
        "y = ScatterElements<axis=1>(x, i, u)",
        {"x": normal(2, 5), "i": np.array([[0, 3], [-1, 2]]), "u": normal(2, 2)},
    ),
    "scatter_add": (
        'y = ScatterElements<axis=1, reduction="add">(x, i, u)',
        {"x": normal(2, 5), "i": np.array([[3, 3], [1, 2]]), "u": normal(2, 2)},
    ),
    "scatter_nd": (
        "y = ScatterND(x, I, u)",
        {"x": normal(2, 3, 4), "I": np.array([[0, 1], [1, -1]]), "u": normal(2, 4)},
    ),
    "scatter_nd_most": (
        'y = ScatterND<reduction="max">(x, I, u)',
        {"x": normal(4, 3), "I": np.array([[1], [3]]), "u": normal(2, 3)},
    ),
    "one_hot": (
        "y = OneHot(i, D, V)",
        {"i": whole(2, 3, low=-4, high=6), "D": np.int64(4), "V": np.array([-1, 2.5], np.float32)},
    ),
    "one_hot_first": (
        "y = OneHot<axis=0>(i, D, V)",
        {"i": whole(2, 3, high=4), "D": ints(4), "V": np.array([0, 1], np.float32)},
    ),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
