"""Functions of one number, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(*shape: int, low: int = 0, high: int = 5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


def small(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


X = normal(2, 3, 4, 5)
COLUMN = normal(3, 1, 1, seed=2)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    name.lower(): (f"y = {name}(x)", {"x": data})
    for name, data in {
        "Abs": X,
        "Neg": X,
        "Sign": np.array([[-2.0, 0, 3]], np.float32),
        "Exp": X,
        "Log": positive(2, 5),
        "Sqrt": positive(2, 5),
        "Reciprocal": positive(2, 5),
        "Erf": X,
        "Floor": 3 * X,
        "Ceil": 3 * X,
        "Round": np.array([[-1.5, -0.5, 0.5, 1.5, 2.5, 2.4]], np.float32),
        "Sin": X,
        "Cos": X,
        "Tan": small(2, 5),
        "Asin": small(2, 5),
        "Acos": small(2, 5),
        "Atan": X,
        "Sinh": X,
        "Cosh": X,
        "Tanh": X,
        "Asinh": 3 * X,
        "Acosh": 1 + positive(2, 5),
        "Atanh": small(2, 5),
        "Relu": X,
        "Sigmoid": 4 * X,
        "Softplus": 5 * X,
        "Softsign": X,
        "Elu": X,
        "Celu": X,
        "Selu": X,
        "LeakyRelu": X,
        "HardSigmoid": 4 * X,
        "HardSwish": 4 * X,
        "Mish": 4 * X,
        "Gelu": 2 * X,
        "Hardmax": X,
        "Shrink": X,
    }.items()
} | {
    "abs_whole": ("y = Abs(x)", {"x": whole(2, 6, low=-5)}),
    "elu_alpha": ("y = Elu<alpha=0.3>(x)", {"x": X}),
    "celu_alpha": ("y = Celu<alpha=2.0>(x)", {"x": X}),
    "leaky_alpha": ("y = LeakyRelu<alpha=0.3>(x)", {"x": X}),
    "hard_sigmoid_ends": ("y = HardSigmoid<alpha=0.4, beta=0.3>(x)", {"x": X}),
    "thresholded": ("y = ThresholdedRelu<alpha=1.0>(x)", {"x": np.array([[0.5, 1.0, 1.5]], np.float32)}),
    "gelu_tanh": ('y = Gelu<approximate="tanh">(x)', {"x": 2 * X}),
    "prelu": ("y = PRelu(x, A)", {"x": X, "A": COLUMN}),
    "prelu_computed": ("y = PRelu(x, a)", {"x": X, "a": COLUMN}),
    "clip": ("y = Clip(x, L, H)", {"x": X, "L": np.float32(-0.5), "H": np.float32(0.7)}),
    "clip_six": ("y = Clip(x, L, H)", {"x": 5 * X, "L": np.float32(0), "H": np.float32(6)}),
    "clip_below": ("y = Clip(x, L)", {"x": X, "L": np.float32(-0.5)}),
    "clip_above": ("y = Clip(x, , H)", {"x": X, "H": np.float32(0.5)}),
    "clip_crossed": ("y = Clip(x, L, H)", {"x": X, "L": np.float32(0.7), "H": np.float32(-0.5)}),
    "clip_computed": ("y = Clip(x, l)", {"x": X, "l": np.float32(0.1).reshape(())}),
    "clip_whole": ("y = Clip(x, L, H)", {"x": whole(2, 6), "L": np.int64(1), "H": np.int64(3)}),
    "softmax": ("y = Softmax<axis=1>(x)", {"x": X}),
    "softmax_last": ("y = Softmax(x)", {"x": 9 * X}),
    "log_softmax": ("y = LogSoftmax<axis=-2>(x)", {"x": 30 * X}),
    "swish_by_hand": ("s = Sigmoid(x) y = Mul(x, s)", {"x": X}),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
