"""float16 in the graph: where it is written, where it is not, and that the network stays the same."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.errors import BuildError, VerdictError
from fourfold.export.artifact import Exported, Feed, Golden
from fourfold.export.precision import to_fp16
from fourfold.runtimes.reference import evaluate

from .conftest import build

CONVNET = """
    c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    n = LayerNormalization(c, scale)
    g = Gelu(n)
    p = GlobalAveragePool(g)
    f = Flatten(p)
    y = Gemm<transB = 1>(f, v)
"""
WEIGHTS = {"w": (8, 4, 3, 3), "b": (8,), "scale": (6,), "v": (5, 8)}


def golden(exported: Exported, *, scale: float = 1.0) -> Exported:
    x = scale * np.random.default_rng(3).standard_normal((2, 4, 6, 6)).astype(np.float32)
    feed = {"x": x}
    return replace(exported, golden=Golden(feed, evaluate(exported.model)(feed)))


def dtypes(model: ir.Model) -> dict[str, set[ir.DataType | None]]:
    return {node.op_type: {v.dtype for v in node.outputs} for node in model.graph}


def test_a_network_computes_in_float16_between_float32_ends() -> None:
    exported = golden(build(CONVNET, y="float[batch, 5] y", **WEIGHTS))
    half = to_fp16(exported, evaluate=evaluate)
    onnx.checker.check_model(ir.to_proto(half.model), full_check=True)
    assert half.precision == "fp16"
    assert [v.dtype for v in (*half.model.graph.inputs, *half.model.graph.outputs)] == [ir.DataType.FLOAT] * 2
    assert half.model.graph.outputs[0].name == "y"
    kinds = dtypes(half.model)
    assert all(kinds[op] == {ir.DataType.FLOAT16} for op in ("Conv", "LayerNormalization", "Gelu", "Gemm"))
    stored = half.model.graph.initializers.values()
    assert {v.const_value.dtype for v in stored if v.const_value} == {ir.DataType.FLOAT16}
    assert half.history[-1].changed == 6
    assert half.history[-1].refusals == ()
    (check,) = half.history[-1].parity
    assert check.ok
    assert check.sqnr_db < 100, "nothing was rounded"
    answer = evaluate(half.model)(exported.golden.inputs)["y"]
    np.testing.assert_allclose(answer, exported.golden.outputs["y"], rtol=0.02, atol=0.02)


def test_the_graph_before_stays_as_it_was() -> None:
    exported = golden(build(CONVNET, y="float[batch, 5] y", **WEIGHTS))
    before = ir.to_proto(exported.model).SerializeToString()
    to_fp16(exported, evaluate=evaluate)
    assert ir.to_proto(exported.model).SerializeToString() == before


def test_what_would_overflow_stays_in_float32_and_says_so() -> None:
    exported = golden(
        build("c = Conv(x, w) q = Mul(c, c) s = Sqrt(q) y = Relu(s)", w=(8, 4, 3, 3)), scale=300
    )
    half = to_fp16(exported, evaluate=evaluate)
    kinds = dtypes(half.model)
    assert kinds["Mul"] == kinds["Sqrt"] == {ir.DataType.FLOAT}
    assert kinds["Conv"] == kinds["Relu"] == {ir.DataType.FLOAT16}
    assert ["float16 ends at 65504" in r.reason for r in half.history[-1].refusals] == [True, True]
    assert half.history[-1].parity[0].ok


def test_a_constant_that_does_not_fit_stays() -> None:
    big = np.full((1, 4, 1, 1), 1e6, np.float32)
    half = to_fp16(golden(build("m = Mul(x, big) y = Div(m, big)", big=big)), evaluate=evaluate)
    assert {r.where for r in half.history[-1].refusals} == {node.name for node in half.model.graph}


def test_a_value_read_in_both_precisions_is_cast_once() -> None:
    body = """a = Relu(x) s = CumSum(a, axis) t = CumSum<reverse = 1>(a, axis) r = Mul(a, a)
              u = Add(s, t) y = Add(u, r)"""
    half = to_fp16(golden(build(body, axis=np.array(2))), evaluate=evaluate)
    onnx.checker.check_model(ir.to_proto(half.model), full_check=True)
    readers = [n for n in half.model.graph if n.op_type == "Cast" and n.inputs[0].name == "a"]
    assert len(readers) == 1
    assert [r.reason for r in half.history[-1].refusals] == ["a running sum would round in every step"] * 2


SCAN = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 4, 6, 6] x) => (float[batch, 4, 6, 6] y) {
  scaled = Mul(x, x)
  zero = Sub(scaled, scaled)
  first = ReduceMean<keepdims = 0>(zero, two)
  outer = Relu(first)
  last, y = Scan<num_scan_inputs = 1, scan_input_axes = [2], scan_output_axes = [2],
    body = step (float[batch, 4, 6] state, float[batch, 4, 6] now)
        => (float[batch, 4, 6] next, float[batch, 4, 6] seen) {
      sum = Add(state, now)
      next = Add(sum, outer)
      seen = Identity(next)
    }>(first, scaled)
}"""


def test_a_recurrence_stays_in_float32_with_what_it_captures() -> None:
    proto = onnx.parser.parse_model(SCAN)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "two"))
    template = build("y = Relu(x)")
    exported = golden(replace(template, model=ir.from_proto(onnx.shape_inference.infer_shapes(proto))))
    half = to_fp16(exported, evaluate=evaluate)
    onnx.checker.check_model(ir.to_proto(half.model), full_check=True)
    assert dtypes(half.model)["Mul"] == {ir.DataType.FLOAT16}
    assert dtypes(half.model)["Scan"] == {ir.DataType.FLOAT}
    (refusal,) = half.history[-1].refusals
    assert "round its state in every step" in refusal.reason


def test_sizes_and_types_are_not_numbers_of_the_network() -> None:
    body = """s = Shape<start = 2>(x) n = Cast<to = 1>(s) t = Mul(n, two) i = Cast<to = 7>(t)
              h = Shape<end = 2>(x) size = Concat<axis = 0>(h, i)
              u = Resize<mode = "nearest">(x, , , size)
              z = ConstantOfShape(size) g = Greater(u, z) y = Where(g, u, z)"""
    exported = golden(build(body, two=np.array([2.0, 2.0], np.float32)))
    half = to_fp16(exported, evaluate=evaluate)
    onnx.checker.check_model(ir.to_proto(half.model), full_check=True)
    assert half.history[-1].parity[0].ok


def test_a_graph_without_types_is_refused() -> None:
    exported = golden(build("a = Neg(x) y = Mul(a, a)"))
    exported.model.graph.node(0).op_type, exported.model.graph.node(0).domain = "Mystery", "elsewhere"
    exported.model.graph.node(0).outputs[0].type = None
    with pytest.raises(BuildError, match="expected a graph with known types, got a of net without one"):
        to_fp16(exported, evaluate=evaluate)


def test_a_network_that_float16_destroys_fails() -> None:
    body = "a = Mul(x, large) y = Sin(a)"  # a rounding of a thousand is a phase of its own
    exported = golden(build(body, large=np.array(1000, np.float32)))
    with pytest.raises(VerdictError, match="fp16"):
        to_fp16(exported, evaluate=evaluate)


def test_the_golden_answer_stays_the_float_one() -> None:
    exported = golden(build("y = Relu(x)"))
    kept: Feed = to_fp16(exported, evaluate=evaluate).golden.outputs
    assert kept is exported.golden.outputs
