"""Networks that choose by their own numbers, in float16."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.errors import VerdictError
from fourfold.export.artifact import Exported, Golden
from fourfold.export.decisions import before, counts, decisions, streams
from fourfold.export.precision import to_fp16
from fourfold.runtimes.reference import evaluate

from .conftest import build

ROUTED = """
    a = Conv(x, same)
    b = Relu(a)
    c = Conv(b, same)
    m = ReduceMean<keepdims = 0>(c, places)
    best, chosen = TopK(m, one)
    column = Unsqueeze(chosen, last)
    mine = Equal(column, numbers)
    gate = Cast<to = 1>(mine)
    wide = Reshape(gate, shape)
    r = Mul(c, wide)
    d = Conv(r, same)
    e = Conv(d, same)
    f = Add(e, d)
    m2 = ReduceMax<keepdims = 0>(f, places)
    best2, chosen2 = TopK(m2, one)
    c2 = Cast<to = 1>(chosen2)
    w2 = Reshape(c2, shape2)
    h = Add(f, w2)
    y = Conv(h, same)
"""
"""Keeps the channel with the largest mean, then adds the number of the channel that is then largest."""
WEIGHTS = {
    "same": np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1),
    "places": np.array([2, 3]),
    "one": np.array([1]),
    "last": np.array([-1]),
    "numbers": np.arange(4).reshape(1, 1, 4),
    "shape": np.array([-1, 4, 1, 1]),
    "shape2": np.array([-1, 1, 1, 1]),
}


def routed(apart: float) -> Exported:
    """On the golden inputs, channel 2 is better than channel 1 by a share ``apart``."""
    exported = build(ROUTED, x="batch, 4, 6, 6", **WEIGHTS)
    x = np.random.default_rng(3).uniform(0, 0.2, (2, 4, 6, 6)).astype(np.float32)
    x[:, 1], x[:, 2] = 1.0, 1.0 + apart
    return golden(exported, x)


def golden(exported: Exported, x: np.ndarray) -> Exported:
    feed = {"x": x.astype(np.float32)}
    return replace(exported, golden=Golden(feed, evaluate(exported.model)(feed)))


def names(nodes: tuple[ir.Node, ...]) -> list[str]:
    return [node.outputs[-1].name or "" for node in nodes]


def test_a_decision_makes_integers_or_truths_of_computed_numbers() -> None:
    body = """a = Relu(x) f = Floor(a) g = Greater(f, zero) w = Where(g, a, zero) i = ArgMax(w)
              j = Equal(i, two) k = Cast<to = 1>(j) l = Cast<to = 6>(w) y = Add(k, w)"""
    exported = build(body, zero=np.array(0, np.float32), two=np.array(2))
    assert names(decisions(exported.model)) == ["f", "g", "i"]


def test_sizes_constants_and_unread_indices_decide_nothing() -> None:
    body = """s = Shape(x) n = Cast<to = 1>(s) h = Mul(n, half) i = Cast<to = 7>(h) z = ConstantOfShape(i)
              c = Greater(half, two) b, unread = TopK(x, one) y = Add(b, b)"""
    weights = {"half": np.array([1.0], np.float32), "two": np.array([2], np.float32), "one": np.array([1])}
    assert decisions(build(body, **weights).model) == ()


@pytest.mark.parametrize(("many", "tried"), [(0, [0]), (1, [0, 1]), (2, [0, 1, 2]), (27, [0, 14, 21, 27])])
def test_half_of_the_rest_is_kept_each_time(many: int, tried: list[int]) -> None:
    assert counts([ir.node("ArgMax", [])] * many) == tried


def test_what_a_decision_reads_is_found_through_inner_graphs() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> net (float[4] x, bool cond) => (bool[4] y) {
          a = Relu(x)
          unread = Exp(x)
          b = If (cond) <
            then_branch = yes () => (float[4] p) { p = Neg(a) },
            else_branch = no () => (float[4] n) { n = Identity(x) }
          >
          y = Greater(b, a)
        }"""
    )
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    (choice,) = decisions(model)
    assert {node.op_type for node in before(model, [choice])} == {"Greater", "If", "Relu"}


def test_a_network_that_decides_clearly_is_float16_throughout() -> None:
    step = to_fp16(routed(0.5), evaluate=evaluate).history[-1]
    assert step.refusals == ()
    assert "lowest" not in step.detail
    assert [found.batch for found in step.parity] == [2, 1], "golden inputs, and the worst of fresh ones"


def test_a_decision_that_float16_takes_otherwise_is_kept_with_all_that_it_reads() -> None:
    half = to_fp16(routed(1e-4), evaluate=evaluate)
    step = half.history[-1]
    onnx.checker.check_model(ir.to_proto(half.model), full_check=True)
    reasons = {r.where: r.reason for r in step.refusals}
    operators = {node.name: node.op_type for node in half.model.graph}
    assert sorted(operators[name] for name in reasons) == sorted(
        ["Conv", "Relu", "Conv", "ReduceMean", "TopK", "Conv", "Conv", "Add", "ReduceMax", "TopK"]
    )
    assert sum("a sum of all before it" in reason for reason in reasons.values()) == 1
    assert sum("(TopK) decides by it" in reason for reason in reasons.values()) == 10
    halves = {node.op_type for node in half.model.graph if node.outputs[0].dtype == ir.DataType.FLOAT16}
    assert {"Mul", "Reshape", "Add", "Conv"} <= halves
    forms = step.detail.split("; ")
    assert "lowest ratio of signal to noise seen" in forms[1]
    assert [form.split(", ")[1] for form in forms[1:]] == [
        "fp16 graph",
        "fp16 graph with the scores and sums of 2 decisions in float32",
        "fp16 graph with the scores and sums of 2 decisions and all that 1 of them read in float32",
    ]
    assert all(found.ok for found in step.parity)


def test_only_scores_and_sums_are_kept_where_that_is_enough() -> None:
    body = """a = Conv(x, same) i = ArgMax<axis = 1>(a) c = Cast<to = 1>(i) d = Add(a, c)
              y = Conv(d, same)"""
    step = to_fp16(undecided(body), evaluate=evaluate).history[-1]
    assert len(step.refusals) == 2
    assert step.detail.endswith("fp16 graph with the scores and sums of 1 decisions in float32")


def test_an_answer_that_is_a_decision_is_no_reason_to_keep_the_whole_network() -> None:
    body = "a = Conv(x, same) i = ArgMax<axis = 1>(a) y = Cast<to = 1>(i)"
    with pytest.raises(VerdictError, match="expected fp16 graph to equal float model"):
        to_fp16(undecided(body), evaluate=evaluate)


def undecided(body: str) -> Exported:
    """Channels 1 and 2 of the golden inputs are the same in float16."""
    x = np.random.default_rng(3).uniform(0, 0.2, (2, 4, 6, 6)).astype(np.float32)
    x[:, 1], x[:, 2] = 1.0, 1.0 + 1e-4
    return golden(build(body, same=WEIGHTS["same"]), x)


def test_sums_of_a_stream_are_those_of_a_number_and_what_is_computed_from_it() -> None:
    body = """a = Relu(x) b = Exp(a) f = Add(b, a) g = Neg(f) h = Neg(f) k = Add(g, h) l = Add(k, one)
              m = Add(l, x) i = ArgMax(m) n = Add(m, x) c = Cast<to = 1>(i) y = Add(c, n)"""
    model = build(body, one=np.array(1, np.float32)).model
    found = streams(model, decisions(model))
    assert sorted(node.outputs[0].name or "" for node in found) == ["f", "m"]


def test_a_decision_that_falls_otherwise_on_fresh_inputs_only_is_kept() -> None:
    body = "a = Mul(x, large) s = Sin(a) g = Greater(s, x) y = Cast<to = 1>(g)"
    exported = golden(build(body, large=np.array(1000, np.float32)), np.zeros((2, 4, 6, 6)))
    step = to_fp16(exported, evaluate=evaluate).history[-1]
    assert [r.reason.split(" (")[1] for r in step.refusals] == ["Greater) decides by it"] * 3


def test_a_network_that_no_kept_decision_saves_fails() -> None:
    body = "a = Mul(x, large) s = Sin(a) i = ArgMax<axis = 1>(x) c = Cast<to = 1>(i) y = Add(s, c)"
    x = np.random.default_rng(3).standard_normal((2, 4, 6, 6))
    exported = golden(build(body, large=np.array(1000, np.float32)), x)
    with pytest.raises(VerdictError, match="and all that 1 of them read in float32 to equal float model"):
        to_fp16(exported, evaluate=evaluate)
