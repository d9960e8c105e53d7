"""The electronic rest of a graph, stage by stage, gives what the whole graph gives."""

from collections.abc import Callable

import numpy as np
import pytest

from fourfold.export.artifact import Array, Exported
from fourfold.export.rules.shapes import infer_shapes
from fourfold.runtimes.optical4f.segments import cut, segments
from fourfold.runtimes.reference import evaluate

NETS = {
    "a chain": """net (float[batch, 4] x) => (float[batch, 4] y) {
        a = Mul(x, x)  b = MatMul(a, w)  c = Relu(b)  d = MatMul(c, w)  y = Add(d, a) }""",
    "one after the other": """net (float[batch, 4] x) => (float[batch, 4] y) {
        b = MatMul(x, w)  d = MatMul(b, w)  y = Relu(d) }""",
    "outputs of light": """net (float[batch, 4] x) => (float[batch, 4] d, float[batch, 4] y) {
        b = MatMul(x, w)  y = Relu(b)  d = MatMul(y, w) }""",
    "side by side": """net (float[batch, 4] x) => (float[batch, 4] y) {
        b = MatMul(x, w)  a = Abs(x)  d = MatMul(a, w)  y = Mul(b, d) }""",
    "captured by a branch": """net (float[batch, 4] x) => (float[batch, 4] y) {
        b = MatMul(x, w)  s = ReduceSum<keepdims = 0>(x)  c = Greater(s, zero)
        t = If(c) <then_branch = yes () => (float[batch, 4] p) { p = Mul(b, x) },
                   else_branch = no () => (float[batch, 4] q) { q = Neg(b) }>
        d = MatMul(t, w)  y = Relu(d) }""",
    "weights of their own": """net (float[batch, 4] x) => (float[batch, 4] y) {
        v = Transpose(w)  b = MatMul(x, v)  d = MatMul(b, w)  y = Relu(d) }""",
}


@pytest.mark.parametrize("name", NETS)
def test_stages_and_products_make_up_the_graph(build: Callable[..., Exported], name: str) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 4)))
    text = f'<ir_version: 10, opset_import: ["": 20]> {NETS[name]}'
    exported = build(text, {"x": x}, w=w, zero=np.float32(0))
    infer_shapes(exported.model)
    products = [n for n in exported.model.graph if n.op_type == "MatMul"]
    ends = [(str(n.inputs[0] and n.inputs[0].name), str(n.outputs[0].name)) for n in products]
    rest = cut(exported.model, ends)
    assert not [n for n in rest.graph if n.op_type == "MatMul"]
    assert len(list(exported.model.graph)) > len(list(rest.graph))
    values: dict[str, Array] = {"x": x}
    for number, stage in enumerate(segments(rest, ends)):
        if stage is not None:
            values |= stage.run({key: values[key] for key in stage.inputs})
        if number < len(ends):
            matrix = w.T if (name, number) == ("weights of their own", 0) else w
            values[ends[number][1]] = values[ends[number][0]] @ matrix
    for key, expected in evaluate(exported.model)({"x": x}).items():
        np.testing.assert_allclose(values[key], expected, rtol=1e-5, atol=1e-6)
