"""Operators on single values, beside torch and beside what coremltools infers."""

import math
from typing import Any

import numpy as np
import torch

rng = np.random.default_rng(0)

FLOATS = {
    "x": rng.normal(size=(2, 3, 4)).astype(np.float32),
    "y": (rng.normal(size=(3, 1)) + 3).astype(np.float32),
    "u": rng.uniform(-0.9, 0.9, size=(2, 3, 4)).astype(np.float32),
    "i": rng.integers(-9, 9, size=(2, 3, 4)).astype(np.int32),
    "j": rng.choice([-3, -1, 2, 5], size=(3, 1)).astype(np.int32),
}

# MIL's name where torch's is another one.
BINARY = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "real_div": "true_divide",
    "floor_div": "floor_divide",
    "mod": "remainder",
    "maximum": "maximum",
    "minimum": "minimum",
    "equal": "eq",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
}
UNARY = ["ceil", "floor", "round", "cos", "cosh", "erf", "exp", "exp2", "sign", "sin", "sinh", "square"]
UNARY += ["tan", "tanh", "abs", "atan"]
WITHIN_ONE = ["acos", "asin", "atanh"]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]


def binary(name: str, left: str, right: str) -> tuple[str, Any, Any]:
    return (
        f"{name}_{left}{right}",
        lambda mb, **v: getattr(mb, name)(x=v[left], y=v[right]),
        lambda **v: getattr(torch, BINARY[name])(v[left], v[right]),
    )


def unary(name: str, of: str) -> tuple[str, Any, Any]:
    return (name, lambda mb, **v: getattr(mb, name)(x=v[of]), lambda **v: getattr(torch, name)(v[of]))


def test_two_values(compare: Any) -> None:
    checks = [binary(name, "x", "y") for name in BINARY]
    # coremltools infers a float for the quotient of integers, which contradicts the type it declares.
    checks += [binary(name, "i", "j") for name in BINARY if name != "real_div"]
    checks += [
        ("pow", lambda mb, y, u, **_: mb.pow(x=y, y=u), lambda y, u, **_: y**u),
        ("pow_i", lambda mb, i, **_: mb.pow(x=i, y=3), lambda i, **_: i**3),
    ]
    compare(checks, FLOATS)


def test_quotients_of_integers_are_cut_towards_zero(evaluated: Any) -> None:
    program = evaluated(lambda mb, i, j: mb.real_div(x=i, y=j, name="q"), {k: FLOATS[k] for k in "ij"})
    answer = program.run({k: FLOATS[k] for k in "ij"})["q"]
    np.testing.assert_array_equal(answer, np.trunc(FLOATS["i"] / FLOATS["j"]).astype(np.int32))


def test_one_value(compare: Any) -> None:
    checks = [unary(name, "x") for name in UNARY] + [unary(name, "u") for name in WITHIN_ONE]
    checks += [
        ("sqrt", lambda mb, y, **_: mb.sqrt(x=y), lambda y, **_: y.sqrt()),
        ("inverse", lambda mb, y, **_: mb.inverse(x=y, epsilon=0.25), lambda y, **_: 1 / (y + 0.25)),
        ("inverse_default", lambda mb, y, **_: mb.inverse(x=y), lambda y, **_: 1 / (y + 1e-4)),
        ("log", lambda mb, y, **_: mb.log(x=y, epsilon=0.5), lambda y, **_: (y + 0.5).log()),
        ("log_default", lambda mb, y, **_: mb.log(x=y), lambda y, **_: y.log()),
        ("rsqrt", lambda mb, y, **_: mb.rsqrt(x=y, epsilon=0.5), lambda y, **_: (y + 0.5).rsqrt()),
        ("clip", lambda mb, x, **_: mb.clip(x=x, alpha=-0.5, beta=0.7), lambda x, **_: x.clamp(-0.5, 0.7)),
        ("threshold", lambda mb, x, **_: mb.threshold(x=x, alpha=0.1), lambda x, **_: x.clamp(min=0.1)),
        ("threshold_i", lambda mb, i, **_: mb.threshold(x=i, alpha=2), lambda i, **_: i.clamp(min=2)),
        ("square_i", lambda mb, i, **_: mb.square(x=i), lambda i, **_: i * i),
        ("abs_i", lambda mb, i, **_: mb.abs(x=i), lambda i, **_: i.abs()),
    ]
    compare(checks, FLOATS)


def test_truth_values(compare: Any) -> None:
    def logical(name: str) -> tuple[str, Any, Any]:
        return (
            name,
            lambda mb, x, y, **_: getattr(mb, name)(x=mb.greater(x=x, y=0.0), y=mb.less(x=y, y=3.0)),
            lambda x, y, **_: getattr(torch, name)(x > 0, y < 3),
        )

    negated = (
        "logical_not",
        lambda mb, x, **_: mb.logical_not(x=mb.greater(x=x, y=0.0)),
        lambda x, **_: x <= 0,
    )
    compare([*(logical(name) for name in LOGICAL), negated], FLOATS)


def test_casts(compare: Any) -> None:
    feed = {"x": np.array([-2.7, -0.5, 0.0, 0.2, 1.5, 77.9], np.float32)}
    checks = [
        ("int", lambda mb, x: mb.cast(x=x, dtype="int32"), lambda x: x.trunc().int()),
        ("truth", lambda mb, x: mb.cast(x=x, dtype="bool"), lambda x: x != 0),
        (
            "back",
            lambda mb, x: mb.cast(x=mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="int32"), dtype="fp32"),
            lambda x: (x != 0).float(),
        ),
        (
            "narrow",
            lambda mb, x: mb.cast(x=mb.cast(x=mb.mul(x=x, y=100.0), dtype="int16"), dtype="int32"),
            lambda x: (x * 100).short().int(),
        ),
        (
            "half",
            lambda mb, x: mb.cast(x=mb.cast(x=mb.mul(x=x, y=0.1), dtype="fp16"), dtype="fp32"),
            lambda x: (x * 0.1).half().float(),
        ),
    ]
    compare(checks, feed)


ACTIVATIONS = [
    ("relu", lambda mb, x: mb.relu(x=x), lambda x: x.relu()),
    ("relu6", lambda mb, x: mb.relu6(x=x), lambda x: x.clamp(0, 6)),
    ("silu", lambda mb, x: mb.silu(x=x), lambda x: x * x.sigmoid()),
    ("sigmoid", lambda mb, x: mb.sigmoid(x=x), lambda x: x.sigmoid()),
    ("softplus", lambda mb, x: mb.softplus(x=x), lambda x: torch.nn.functional.softplus(x)),
    ("softsign", lambda mb, x: mb.softsign(x=x), lambda x: x / (1 + x.abs())),
    ("softmax", lambda mb, x: mb.softmax(x=x), lambda x: x.softmax(-1)),
    ("softmax_1", lambda mb, x: mb.softmax(x=x, axis=1), lambda x: x.softmax(1)),
    ("gelu", lambda mb, x: mb.gelu(x=x), lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))),
    (
        "gelu_tanh",
        lambda mb, x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    ),
    (
        "gelu_sigmoid",
        lambda mb, x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
        lambda x: x * (1.702 * x).sigmoid(),
    ),
    ("elu", lambda mb, x: mb.elu(x=x, alpha=0.3), lambda x: torch.nn.functional.elu(x, 0.3)),
    ("leaky_relu", lambda mb, x: mb.leaky_relu(x=x, alpha=0.2), lambda x: torch.where(x > 0, x, 0.2 * x)),
    (
        "clamped_relu",
        lambda mb, x: mb.clamped_relu(x=x, alpha=0.2, beta=0.5),
        lambda x: torch.where(x > 0, x, 0.2 * x).clamp(max=0.5),
    ),
    (
        "linear_activation",
        lambda mb, x: mb.linear_activation(x=x, alpha=0.2, beta=0.5),
        lambda x: 0.2 * x + 0.5,
    ),
    (
        "scaled_tanh",
        lambda mb, x: mb.scaled_tanh(x=x, alpha=1.5, beta=0.5),
        lambda x: 1.5 * (0.5 * x).tanh(),
    ),
    (
        "sigmoid_hard",
        lambda mb, x: mb.sigmoid_hard(x=x, alpha=0.2, beta=0.5),
        lambda x: (0.2 * x + 0.5).clamp(0, 1),
    ),
    (
        "thresholded_relu",
        lambda mb, x: mb.thresholded_relu(x=x, alpha=0.4),
        lambda x: torch.where(x >= 0.4, x, 0.0),
    ),
    (
        "prelu",
        lambda mb, x: mb.prelu(x=x, alpha=np.array([0.1, 0.2, 0.3], np.float32)),
        lambda x: torch.nn.functional.prelu(x, torch.tensor([0.1, 0.2, 0.3])),
    ),
    (
        "softplus_parametric",
        lambda mb, x: mb.softplus_parametric(
            x=x, alpha=np.array([0.1, 0.2, 0.3], np.float32), beta=np.array([1, 2, 3], np.float32)
        ),
        lambda x: (
            torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)
            * (1 + (x * torch.tensor([1.0, 2, 3]).reshape(3, 1, 1)).exp()).log()
        ),
    ),
]


def test_activations(compare: Any) -> None:
    compare(ACTIVATIONS, {"x": rng.normal(size=(2, 3, 4, 5)).astype(np.float32)})


def test_softplus_of_large_values_stays_finite(evaluated: Any) -> None:
    feed = {"x": np.array([-200.0, 200.0], np.float32)}
    answer = evaluated(lambda mb, x: mb.softplus(x=x, name="y"), feed).run(feed)["y"]
    np.testing.assert_allclose(answer, [0, 200], atol=1e-6)
