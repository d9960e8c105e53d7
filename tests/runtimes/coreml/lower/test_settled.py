"""What older exporters compute of sizes, from ONNX text to a saved package that is evaluated."""

from collections.abc import Callable

import numpy as np

from fourfold.export.artifact import Array


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CASES: dict[str, tuple[str, dict[str, Array]]] = {
    "class_token": (  # as torch wrote ``token.expand(batch, -1, -1)`` before its exporter of today
        "s = Shape(x) b = Gather(s, O) u = Unsqueeze(b, A) c = Concat<axis=0>(u, M, M) k = Shape(c) "
        "i = ConstantOfShape<value=int64[1] {1}>(k) n = Mul(i, M) e = Equal(c, n) w = Where(e, i, c) "
        "t = Expand(T, w) j = Concat<axis=1>(t, x) p = Shape(j) q = Gather(p, O) v = Unsqueeze(q, A) "
        "h = Concat<axis=0>(v, N) y = Reshape(j, h)",
        {
            "x": normal(2, 3, 4),
            "T": normal(1, 1, 4, seed=9),
            "O": np.array(0),
            "A": np.array([0]),
            "M": np.array([-1]),
            "N": np.array([4, 2, 2]),
        },
    ),
    "truth_tokens": (
        "s = Shape(x) u = Slice(s, A, E) c = Concat<axis=0>(u, N) t = Expand(T, c) j = Cast<to=1>(t) "
        "y = Add(j, x)",
        {
            "x": normal(2, 3, 4),
            "T": np.array([[[True], [False], [True]]]),
            "A": np.array([0]),
            "E": np.array([1]),
            "N": np.array([1, 4]),
        },
    ),
    "decided_by_a_run": (
        "s = Shape(x) e = Equal(s, M) w = Where(e, I, s) y = Cast<to=1>(w)",
        {"x": normal(2, 3, 4), "M": np.array([2, 3, 7]), "I": np.array([9])},
    ),
    "a_choice_among_floats": (
        "s = Shape(x) e = Equal(s, M) y = Where(e, x, F)",
        {"x": normal(2, 4, 3), "M": np.array([-1, 4, 7]), "F": np.array(3, np.float32)},
    ),
    "resized_to_sizes": (
        's = Shape(x) u = Slice(s, A, E) c = Concat<axis=0>(u, N) y = Resize<mode="linear">(x, , , c)',
        {"x": normal(2, 3, 4, 5), "A": np.array([0]), "E": np.array([2]), "N": np.array([8, 10])},
    ),
}


def test_the_saved_package_answers_like_onnx_runtime(same: Callable[[], None]) -> None:
    same()
