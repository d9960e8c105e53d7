"""Numbers that float16 cannot hold: too large, too small, or lost where they cancel."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from fourfold.export.artifact import Exported, Golden
from fourfold.export.half_range import magnitudes, out_of_range
from fourfold.export.precision import to_fp16
from fourfold.runtimes.reference import evaluate

from .conftest import build

SPREAD = """
    p = Conv(x, near)
    r = Relu(p)
    m = ReduceMean(r, channels)
    d = Sub(r, m)
    q = Mul(d, d)
    v = ReduceMean(q, channels)
    s = Sqrt(v)
    o = ReduceMax(r, channels)
    t = Div(s, o)
    y = Mul(t, thousand)
"""
"""The coefficient of variation of four channels, as in multi-head scans."""


def spread(apart: float) -> Exported:
    """Channels that are the same positive map but for a share ``apart``."""
    random = np.random.default_rng(7)
    near = np.ones((4, 4, 1, 1), np.float32) + apart * random.standard_normal((4, 4, 1, 1)).astype(np.float32)
    weights = {"near": near, "channels": np.array([1]), "thousand": np.array(1000, np.float32)}
    return golden(build(SPREAD, **weights), random.uniform(1, 2, (2, 4, 6, 6)))


def golden(exported: Exported, x: np.ndarray) -> Exported:
    feed = {"x": x.astype(np.float32)}
    return replace(exported, golden=Golden(feed, evaluate(exported.model)(feed)))


def reasons(exported: Exported) -> dict[str, str]:
    model = exported.model
    peaks = magnitudes(model, exported.golden.inputs, evaluate)
    return {node.op_type: why for node, why in out_of_range(model, peaks).items()}


def test_magnitudes_are_the_largest_seen() -> None:
    exported = golden(
        build("a = Neg(x) y = Mul(a, a)"), np.random.default_rng(3).standard_normal((2, 4, 6, 6))
    )
    peaks = magnitudes(exported.model, exported.golden.inputs, evaluate)
    largest = float(np.abs(exported.golden.inputs["x"]).max())
    assert peaks == {"x": largest, "a": largest, "y": pytest.approx(largest**2)}


def test_what_cancels_is_kept_with_what_it_subtracts_back_to_the_product() -> None:
    exported = spread(1e-4)
    found = reasons(exported)
    assert "is left" in found["Sub"]
    assert found["Relu"].endswith(found["Sub"])
    assert "subtracts what it computes" in found["Conv"]
    assert not {"ReduceMax"} & found.keys()
    half = to_fp16(exported, evaluate=evaluate)
    assert half.history[-1].parity[0].sqnr_db > 60
    kept = {refusal.where for refusal in half.history[-1].refusals}
    kinds = {n.op_type: n.outputs[0].dtype for n in half.model.graph if n.name not in kept}
    assert kinds["ReduceMax"] == ir.DataType.FLOAT16


def test_float16_throughout_would_leave_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourfold.export.precision.out_of_range", lambda *_: {})
    with pytest.raises(Exception, match="fp16: at least 40 dB"):
        to_fp16(spread(1e-4), evaluate=evaluate)


def test_what_hardly_cancels_becomes_float16() -> None:
    assert reasons(spread(0.3)) == {}


def test_a_difference_of_nothing_is_nothing_in_float16_too() -> None:
    exported = golden(build("z = Sub(x, x) y = Add(z, x)"), np.ones((2, 4, 6, 6)))
    assert reasons(exported) == {}


def test_small_numbers_are_kept_until_they_are_large_again() -> None:
    body = "s = Mul(x, eps) q = Relu(s) l = Mul(q, large) y = Exp(l)"
    weights = {"eps": np.array(1e-5, np.float32), "large": np.array(6e4, np.float32)}
    exported = golden(build(body, **weights), np.random.default_rng(3).uniform(0, 1, (2, 4, 6, 6)))
    found = [r.reason for r in to_fp16(exported, evaluate=evaluate).history[-1].refusals]
    assert len(found) == 3
    assert sum("float16 has fewer bits below 6.1e-05" in reason for reason in found) == 2
    assert sum("large reaches 6e+04" in reason for reason in found) == 1


def test_numbers_that_do_not_fit_are_named() -> None:
    exported = golden(build("q = Mul(x, x) y = Sqrt(q)"), np.full((2, 4, 6, 6), 300.0))
    assert reasons(exported) == {
        "Mul": "q reaches 9e+04, float16 ends at 65504",
        "Sqrt": "q reaches 9e+04, float16 ends at 65504",
    }
