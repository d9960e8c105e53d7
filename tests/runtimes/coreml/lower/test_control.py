"""If, Loop and Scan, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.abs(normal(*shape, seed=seed)) + np.float32(0.1)


def small(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "if_then": (
        "s = ReduceSum<keepdims=0>(x) c = Greater(s, Z) "
        "y = If(c) <then_branch = t () => (float[B, 4] a) { a = Mul(x, x) }, "
        "else_branch = e () => (float[B, 4] b) { b = Neg(x) }>",
        {"x": positive(2, 4), "Z": np.float32(0)},
    ),
    "if_else": (
        "s = ReduceSum<keepdims=0>(x) c = Less(s, Z) "
        "y = If(c) <then_branch = t () => (float[B, 4] a) { a = Mul(x, x) }, "
        "else_branch = e () => (float[B, 4] b) { b = Neg(x) }>",
        {"x": positive(2, 4), "Z": np.float32(0)},
    ),
    "if_known": (
        "y = If(C) <then_branch = t () => (float[B, 4] a) { a = Mul(x, x) }, "
        "else_branch = e () => (float[B, 4] b) { b = Neg(x) }>",
        {"x": positive(2, 4), "C": np.bool_(False)},
    ),
    "loop": (
        "y = Loop(N, G, x) <body = step (int64 i, bool k, float[B, 4] h) => (bool k2, float[B, 4] h2) "
        "{ k2 = Identity(k)  g = Mul(h, x)  h2 = Add(g, x) }>",
        {"x": normal(2, 4), "N": np.int64(3), "G": np.bool_(True)},
    ),
    "loop_until": (
        "y = Loop(N, G, x) <body = step (int64 i, bool k, float[B, 4] h) => (bool k2, float[B, 4] h2) "
        "{ h2 = Add(h, x) s = ReduceSum<keepdims=0>(h2) k2 = Less(s, T) }>",
        {"x": positive(2, 4), "N": np.int64(50), "G": np.bool_(True), "T": np.float32(30)},
    ),
    "loop_computed": (
        "y = Loop(n, , x) <body = step (int64 i, bool k, float[B, 4] h) => (bool k2, float[B, 4] h2) "
        "{ k2 = Identity(k)  f = Cast<to=1>(i)  h2 = Add(h, f) }>",
        {"x": normal(2, 4), "n": np.int64(5).reshape(())},
    ),
    "scan_of_many": (
        "l, y = Scan<num_scan_inputs=2, body = step (float[B, 4] h, float[B, 4] s, float[B, 4] t) "
        "=> (float[B, 4] o, float[B, 4] oo) { m = Mul(h, s)  o = Add(t, m)  oo = Identity(o) }>(h0, a, b)",
        {"h0": normal(2, 4), "a": small(37, 2, 4), "b": normal(37, 2, 4, seed=1)},
    ),
    "scan_selective": (
        "l, y = Scan<num_scan_inputs=3, body = step (float[B, 3, 4] h, float[B, 1, 4] d, float[B, 3, 1] u, "
        "float[B, 3, 1] c) => (float[B, 3, 4] o, float[B, 4] q) "
        "{ da = Mul(d, A) e = Exp(da) m = Mul(e, h) v = Mul(d, u) o = Add(m, v) p = Mul(o, c) "
        "q = ReduceSum<keepdims=0>(p, AX) }>(h0, d, u, c)",
        {
            "h0": normal(2, 3, 4),
            "d": positive(40, 2, 1, 4),
            "u": normal(40, 2, 3, 1),
            "c": normal(40, 2, 3, 1),
            "A": -positive(3, 4),
            "AX": ints(-2),
        },
    ),
    "scan_backwards": (
        "l, y = Scan<num_scan_inputs=1, scan_input_directions=[1], scan_output_directions=[1], "
        "body = step (float[B, 4] h, float[B, 4] s) => (float[B, 4] o, float[B, 4] oo) "
        "{ m = Mul(h, G)  o = Add(m, s)  oo = Mul(o, o) }>(h0, a)",
        {"h0": normal(2, 4), "a": normal(7, 2, 4), "G": np.float32(0.5)},
    ),
    "scan_not_linear": (
        "l, y = Scan<num_scan_inputs=1, body = step (float[B, 4] h, float[B, 4] s) "
        "=> (float[B, 4] o, float[B, 4] oo) { m = Add(h, s)  o = Tanh(m)  oo = Mul(o, s) }>(h0, a)",
        {"h0": normal(2, 4), "a": normal(9, 2, 4)},
    ),
    "scan_two_states": (
        "l, k, y = Scan<num_scan_inputs=1, body = step (float[B, 4] h, float[B, 4] g, float[B, 4] s) "
        "=> (float[B, 4] o, float[B, 4] p, float[B, 4] oo) { o = Add(h, g)  p = Mul(g, s)  oo = Sub(o, p) }>"
        "(h0, g0, a)",
        {"h0": normal(2, 4), "g0": normal(2, 4, seed=1), "a": normal(6, 2, 4)},
    ),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
