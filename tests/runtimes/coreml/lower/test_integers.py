"""Q/DQ and weights in integers, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(*shape: int, low: int = 0, high: int = 5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


X = normal(2, 3, 4, 5)
PICTURE = normal(2, 4, 9, 8, seed=3)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "quantize": (
        "q = QuantizeLinear(x, S, Z) y = DequantizeLinear(q, S, Z)",
        {"x": 2 * X, "S": np.float32(0.02), "Z": np.int8(0)},
    ),
    "quantize_shifted": (
        "q = QuantizeLinear(x, S, Z) y = DequantizeLinear(q, S, Z)",
        {"x": 2 * X, "S": np.float32(0.03), "Z": np.uint8(100)},
    ),
    "quantize_channels": (
        "q = QuantizeLinear<axis=1>(x, S, Z) y = DequantizeLinear<axis=1>(q, S, Z)",
        {"x": 2 * X, "S": np.array([0.02, 0.05, 0.1], np.float32), "Z": np.array([0, 3, -7], np.int8)},
    ),
    "conv": (
        "q = QuantizeLinear(x, S, Z) d = DequantizeLinear(q, S, Z) w = DequantizeLinear<axis=0>(W, R, O) "
        "y = Conv(d, w)",
        {
            "x": PICTURE,
            "S": np.float32(0.03),
            "Z": np.int8(0),
            "W": whole(6, 4, 3, 3, low=-127, high=127).astype(np.int8),
            "R": positive(6) / 100,
            "O": np.zeros(6, np.int8),
        },
    ),
    "matmul": (
        "w = DequantizeLinear<axis=1>(W, R, O) y = MatMul(x, w)",
        {
            "x": normal(2, 3, 4),
            "W": whole(4, 5, low=-127, high=127).astype(np.int8),
            "R": positive(5) / 100,
            "O": np.zeros(5, np.int8),
        },
    ),
    "gemm": (
        "w = DequantizeLinear(W, R, O) y = Gemm(x, w)",
        {
            "x": normal(3, 4),
            "W": whole(4, 5, high=255).astype(np.uint8),
            "R": np.float32(0.01),
            "O": np.uint8(128),
        },
    ),
    "bias": (
        "w = DequantizeLinear(W, R) c = DequantizeLinear(C, R) y = Gemm<transB=1>(x, w, c)",
        {
            "x": normal(3, 4),
            "W": whole(5, 4, low=-9, high=9).astype(np.int8),
            "R": np.float32(0.1),
            "C": whole(5, low=-99, high=99).astype(np.int32),
        },
    ),
    "moved": (
        "q = QuantizeLinear(x, S, Z) d = DequantizeLinear(q, S, Z) m = MaxPool<kernel_shape=[2,2]>(d) "
        "p = QuantizeLinear(m, S, Z) y = DequantizeLinear(p, S, Z)",
        {"x": PICTURE, "S": np.float32(0.03), "Z": np.int8(0)},
    ),
    "six_dimensions": (
        "r = Reshape(x, N) q = QuantizeLinear(r, S, Z) d = DequantizeLinear(q, S, Z) "
        "t = Transpose<perm=[0,3,1,5,2,4]>(d) p = QuantizeLinear(t, S, Z) e = DequantizeLinear(p, S, Z) "
        "y = Reshape(e, M)",
        {
            "x": normal(2, 24),
            "N": np.array([0, 2, 3, 2, 1, 2]),
            "M": np.array([0, 4, 6]),
            "S": np.float32(0.02),
            "Z": np.uint8(120),
        },
    ),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
