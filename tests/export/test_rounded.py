"""Float16 without float16 kernels: what a graph says is what numpy says."""

import numpy as np
import onnx
import onnx_ir as ir

from fourfold.export.half import halve
from fourfold.export.rounded import rounded
from fourfold.runtimes.reference import evaluate

from .conftest import build


def half(body: str, **weights: object) -> ir.Model:
    model = build(body, **weights).model
    halve(model, lambda _: False)
    return model


def bits(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


X = np.random.default_rng(3).standard_normal((2, 4, 6, 6)).astype(np.float32)


def test_every_answer_is_rounded() -> None:
    model = half("a = Mul(x, near) b = Add(a, k) y = Sin(b)", near=np.float32(1.0001), k=np.float32(1000))
    answer = evaluate(rounded(model))({"x": X})["y"]
    assert np.array_equal(answer, bits(np.sin(bits(bits(bits(X) * bits(np.float32(1.0001))) + 1000))))


def test_the_evaluator_by_itself_leaves_roundings_out() -> None:
    model = half("b = Add(x, k) y = Sin(b)", k=np.float32(1000))
    alone, written = (evaluate(m)({"x": X})["y"] for m in (model, rounded(model)))
    assert np.abs(alone - written).max() > 0.1


def test_weights_copies_and_made_tensors_are_what_float16_has() -> None:
    body = """r = Reshape(x, flat) m = MatMul(r, w) s = Shape<end = 1>(x)
              t = Concat<axis = 0>(s, three) z = ConstantOfShape<value = float[1] {0.1}>(t) y = Add(m, z)"""
    w = np.random.default_rng(4).standard_normal((144, 3)).astype(np.float32)
    model = half(body, flat=np.array([-1, 144]), w=w, three=np.array([3]))
    answer = evaluate(rounded(model))({"x": X})["y"]
    product = bits(bits(X).reshape(-1, 144) @ bits(w))
    np.testing.assert_allclose(answer, bits(product + bits(np.float32(0.1))), rtol=2e-3, atol=2e-3)
    assert np.array_equal(answer, bits(answer))


def test_the_graph_stays_and_one_without_float16_is_the_same() -> None:
    model = half("y = Exp(x)")
    before = ir.to_proto(model).SerializeToString()
    rounded(model)
    assert ir.to_proto(model).SerializeToString() == before
    plain = build("y = Exp(x)").model
    assert [node.op_type for node in rounded(plain).graph] == ["Exp"]


def test_what_stays_in_float32_is_not_rounded() -> None:
    model = build("a = Mul(x, near) b = Add(a, k) y = Sin(b)", near=np.float32(1.01), k=np.float32(100)).model
    halve(model, lambda node: node.op_type == "Add")
    answer = evaluate(rounded(model))({"x": X})["y"]
    product = bits(bits(X) * bits(np.float32(1.01)))
    assert np.array_equal(answer, bits(np.sin(bits(product + np.float32(100)))))


def test_a_graph_that_is_float16_from_end_to_end_keeps_its_types() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]> 
    net (float16[4, 6] x) => (float16[4, 6] y, float16[4, 6] z) { a = Mul(x, x) z = Add(a, x) y = Sin(z) }"""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    x = (30 * np.random.default_rng(3).standard_normal((4, 6))).astype(np.float16)
    answers = evaluate(rounded(model))({"x": x})
    z = bits(bits(x.astype(np.float32) ** 2) + x)
    assert {name: a.dtype.name for name, a in answers.items()} == {"y": "float16", "z": "float16"}
    assert np.array_equal(answers["z"], z.astype(np.float16))
    assert np.array_equal(answers["y"], np.sin(z).astype(np.float16))
