"""Matrix products, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X = normal(2, 3, 4, 5)

CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "matmul": ("y = MatMul(x, a)", {"x": normal(2, 3, 4), "a": normal(4, 5)}),
    "matmul_weight": ("y = MatMul(x, W)", {"x": normal(2, 3, 4), "W": normal(4, 5)}),
    "matmul_four": ("y = MatMul(x, W)", {"x": X, "W": normal(5, 7)}),
    "matmul_broadcast": ("y = MatMul(x, a)", {"x": normal(2, 1, 3, 4), "a": normal(2, 5, 4, 3, seed=1)}),
    "matmul_left_vector": ("y = MatMul(x, a)", {"x": normal(4), "a": normal(2, 4, 3)}),
    "matmul_right_vector": ("y = MatMul(x, a)", {"x": normal(2, 3, 4), "a": normal(4)}),
    "gemm": ("y = Gemm<transB=1>(x, W, C)", {"x": normal(3, 4), "W": normal(5, 4), "C": normal(5)}),
    "gemm_plain": ("y = Gemm(x, W)", {"x": normal(3, 4), "W": normal(4, 5)}),
    "gemm_scaled": (
        "y = Gemm<alpha=0.5, beta=2.0, transA=1>(x, W, C)",
        {"x": normal(4, 3), "W": normal(4, 5), "C": normal(3, 1)},
    ),
    "gemm_computed": (
        "y = Gemm<transB=1>(x, w, c)",
        {"x": normal(3, 4), "w": normal(5, 4), "c": normal(5)},
    ),
    "einsum_heads": (
        'y = Einsum<equation="bnd,bmd->bnm">(x, a)',
        {"x": normal(2, 3, 4), "a": normal(2, 5, 4)},
    ),
    "einsum_two_summed": (
        'y = Einsum<equation="pbi,piq->bq">(x, W)',
        {"x": normal(3, 2, 4), "W": normal(3, 4, 5)},
    ),
    "einsum_outer": ('y = Einsum<equation="i,j->ji">(x, a)', {"x": normal(3), "a": normal(4)}),
    "einsum_alone": ('y = Einsum<equation="bij->ji">(x)', {"x": normal(2, 3, 4)}),
    "einsum_implicit": ('y = Einsum<equation="ij,jk">(x, a)', {"x": normal(2, 3), "a": normal(3, 4)}),
    "einsum_wide": (
        'y = Einsum<equation="bhwc,hkc->bhwk">(x, W)',
        {"x": normal(2, 3, 4, 5), "W": normal(3, 6, 5)},
    ),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
