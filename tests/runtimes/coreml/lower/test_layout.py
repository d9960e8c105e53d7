"""Reshapes, transposes, paddings and shapes, from ONNX text to a saved package that is evaluated."""

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
    "reshape_rest": ("y = Reshape(x, S)", {"x": X, "S": ints(0, -1, 5)}),
    "reshape_back": ("y = Reshape(x, S)", {"x": X, "S": ints(-1, 20, 3)}),
    "flatten": ("y = Flatten<axis=2>(x)", {"x": X}),
    "flatten_negative": ("y = Flatten<axis=-1>(x)", {"x": X}),
    "squeeze": ("y = Squeeze(x, AX)", {"x": normal(2, 1, 3, 1), "AX": ints(-1, 1)}),
    "unsqueeze": ("y = Unsqueeze(x, AX)", {"x": normal(2, 3), "AX": ints(-1, 1)}),
    "transpose": ("y = Transpose<perm=[2,0,3,1]>(x)", {"x": X}),
    "turned": ("y = Transpose(x)", {"x": X}),
    "concat": (
        "y = Concat<axis=-2>(x, a, C)",
        {"x": X, "a": normal(2, 3, 1, 5), "C": normal(2, 3, 2, 5)},
    ),
    "concat_truth": ("y = Concat<axis=0>(x, a)", {"x": truth(2, 3), "a": truth(2, 3)}),
    "split": ("y, z = Split<axis=2>(x, S)", {"x": X, "S": ints(1, 3)}),
    "split_even": ("y, z, q = Split<axis=3, num_outputs=3>(x)", {"x": X}),
    "expand": ("y = Expand(x, S)", {"x": normal(3, 1), "S": ints(2, 3, 4)}),
    "expand_like": ("s = Shape(x) y = Expand(a, s)", {"x": normal(2, 3, 4), "a": normal(3, 1)}),
    "expand_number": ("s = Shape(x) y = Expand(N, s)", {"x": normal(2, 3), "N": np.float32(7)}),
    "tile": ("y = Tile(x, S)", {"x": normal(2, 3), "S": ints(2, 3)}),
    "tile_truth": ("y = Tile(x, S)", {"x": truth(2, 3), "S": ints(1, 2)}),
    "pad": ("y = Pad(x, P, V)", {"x": X, "P": ints(0, 1, 0, 2, 0, 0, 3, 1), "V": np.float32(-1.5)}),
    "pad_axes": ("y = Pad(x, P, , AX)", {"x": X, "P": ints(1, 2), "AX": ints(-2)}),
    "pad_cut": ("y = Pad(x, P)", {"x": X, "P": ints(0, 0, -1, 2, 0, 0, 0, -1)}),
    "pad_reflect": ('y = Pad<mode="reflect">(x, P)', {"x": X, "P": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    "pad_edge": ('y = Pad<mode="edge">(x, P)', {"x": X, "P": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    "pad_whole": ("y = Pad(x, P, V)", {"x": whole(2, 3), "P": ints(0, 1, 0, 0), "V": np.int64(9)}),
    "batch_of": (
        "s = Shape<start=0, end=1>(x) r = Concat<axis=0>(s, S) y = Reshape(x, r)",
        {"x": X, "S": ints(12, 5)},
    ),
    "sizes": ("y = Shape(x)", {"x": X}),
    "dropout": ("y = Dropout(x)", {"x": X}),
    "dropout_mask": ("y, z = Dropout(x, R)", {"x": X, "R": np.float32(0.3)}),
    "dropout_mask_fixed": ("y, z = Dropout(x)", {"x": X[0]}),
    "like_zeros": ("s = Shape(x) y = ConstantOfShape(s)", {"x": normal(2, 3)}),
    "range": ("y = Range(N, l, S)", {"N": np.int64(0), "l": np.int64(4).reshape(()), "S": np.int64(1)}),
    "upper": ("y = Trilu<upper=1>(x, K)", {"x": normal(2, 4, 5), "K": np.int64(1)}),
    "lower": ("y = Trilu<upper=0>(x)", {"x": normal(2, 4, 5)}),
    "depth_to_space": ("y = DepthToSpace<blocksize=2>(x)", {"x": normal(2, 8, 3, 4)}),
    "depth_to_space_crd": ('y = DepthToSpace<blocksize=2, mode="CRD">(x)', {"x": normal(2, 8, 3, 4)}),
    "space_to_depth": ("y = SpaceToDepth<blocksize=2>(x)", {"x": normal(2, 3, 4, 6)}),
    "windows_of_six": (
        "r = Reshape(x, S) t = Transpose<perm=[0,1,3,2,4,5]>(r) y = Reshape(t, Q)",
        {"x": normal(2, 4, 6, 3), "S": ints(-1, 2, 2, 2, 3, 3), "Q": ints(-1, 6, 3)},
    ),
    "mixed_six": (
        "r = Reshape(x, S) t = Transpose<perm=[0,5,1,3,2,4]>(r) y = Reshape(t, Q)",
        {"x": normal(2, 16, 12), "S": ints(-1, 4, 4, 2, 2, 3), "Q": ints(-1, 3, 8, 8)},
    ),
    "identity": ("a = Identity(x) y = Add(a, a)", {"x": X}),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
