"""Convolutions, pools and resizes, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


PICTURE = normal(2, 4, 9, 8, seed=3)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "conv": (
        "y = Conv<pads=[1,2,0,1], strides=[2,1]>(x, W, C)",
        {"x": PICTURE, "W": normal(6, 4, 3, 2), "C": normal(6)},
    ),
    "conv_groups": ("y = Conv<group=2, dilations=[2,1]>(x, W)", {"x": PICTURE, "W": normal(6, 2, 3, 3)}),
    "conv_depthwise": ("y = Conv<group=4>(x, W)", {"x": PICTURE, "W": normal(4, 1, 3, 3)}),
    "conv_computed": ("y = Conv(x, w, c)", {"x": PICTURE, "w": normal(6, 4, 1, 1), "c": normal(6)}),
    "conv_line": ("y = Conv<pads=[1,0]>(x, W)", {"x": normal(2, 4, 9), "W": normal(3, 4, 3)}),
    "conv_space": ("y = Conv(x, W)", {"x": normal(1, 2, 4, 5, 6), "W": normal(3, 2, 2, 2, 2)}),
    "conv_upper": (
        'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, W)',
        {"x": PICTURE, "W": normal(3, 4, 3, 3)},
    ),
    "conv_lower": (
        'y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, W)',
        {"x": PICTURE, "W": normal(3, 4, 4, 4)},
    ),
    "transposed": (
        "y = ConvTranspose<strides=[2,2], pads=[1,0,1,1]>(x, W, C)",
        {"x": PICTURE, "W": normal(4, 3, 3, 3), "C": normal(3)},
    ),
    "transposed_groups": (
        "y = ConvTranspose<group=2, strides=[2,2]>(x, W)",
        {"x": PICTURE, "W": normal(4, 3, 2, 2)},
    ),
    "transposed_more": (
        "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, W, C)",
        {"x": PICTURE, "W": normal(4, 3, 3, 3), "C": normal(3)},
    ),
    "transposed_beyond": (
        "y = ConvTranspose<strides=[3,3], output_padding=[2,1]>(x, W, C)",
        {"x": PICTURE, "W": normal(4, 3, 2, 2), "C": normal(3)},
    ),
    "transposed_wanted": (
        "y = ConvTranspose<strides=[2,2], output_shape=[17,16]>(x, W)",
        {"x": PICTURE, "W": normal(4, 3, 3, 3)},
    ),
    "max_pool": ("y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)", {"x": PICTURE}),
    "max_pool_ceil": ("y = MaxPool<kernel_shape=[2,3], strides=[2,2], ceil_mode=1>(x)", {"x": PICTURE}),
    "average": ("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", {"x": PICTURE}),
    "average_padded": (
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
        {"x": PICTURE},
    ),
    "average_ceil": (
        "y = AveragePool<kernel_shape=[2,3], strides=[2,2], ceil_mode=1>(x)",
        {"x": PICTURE},
    ),
    "average_ceil_padded": (
        "y = AveragePool<kernel_shape=[2,3], strides=[2,2], pads=[0,1,0,0], ceil_mode=1, "
        "count_include_pad=1>(x)",
        {"x": PICTURE},
    ),
    "average_line": ("y = AveragePool<kernel_shape=[2]>(x)", {"x": normal(2, 3, 7)}),
    "global_average": ("y = GlobalAveragePool(x)", {"x": PICTURE}),
    "global_max": ("y = GlobalMaxPool(x)", {"x": normal(2, 3, 7)}),
    "nearest": (
        'y = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , S)',
        {"x": PICTURE, "S": np.array([1, 1, 2, 3], np.float32)},
    ),
    "nearest_half": ("y = Resize(x, , S)", {"x": PICTURE, "S": np.array([1, 1, 2, 2], np.float32)}),
    "nearest_down": ("y = Resize(x, , S)", {"x": PICTURE, "S": np.array([1, 1, 0.5, 0.7], np.float32)}),
    "linear": ('y = Resize<mode="linear", axes=[2,3]>(x, , , S)', {"x": PICTURE, "S": ints(13, 5)}),
    "linear_corners": (
        'y = Resize<mode="linear", coordinate_transformation_mode="align_corners", axes=[2,3]>(x, , , S)',
        {"x": PICTURE, "S": ints(17, 5)},
    ),
    "linear_asymmetric": (
        'y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, , S)',
        {"x": PICTURE, "S": np.array([1, 1, 2, 1.5], np.float32)},
    ),
    "linear_line": (
        'y = Resize<mode="linear">(x, , S)',
        {"x": normal(2, 3, 7), "S": np.array([1, 1, 2], np.float32)},
    ),
    "cubic": (
        'y = Resize<mode="cubic">(x, , S)',
        {"x": PICTURE, "S": np.array([1, 1, 2, 2], np.float32)},
    ),
    "cubic_down": (
        'y = Resize<mode="cubic", antialias=1>(x, , S)',
        {"x": PICTURE, "S": np.array([1, 1, 0.5, 0.5], np.float32)},
    ),
    "local_response": ("y = LRN<size=3, alpha=0.01, beta=0.6, bias=1.5>(x)", {"x": PICTURE}),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
