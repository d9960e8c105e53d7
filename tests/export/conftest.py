from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.export.artifact import Exported, Golden, Refusal
from fourfold.export.passes import rewrite
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate


@dataclass
class Rewritten:
    before: ir.Model
    after: ir.Model
    exported: Exported

    @property
    def operators(self) -> list[str]:
        return [node.op_type for node in self.after.graph]

    @property
    def reasons(self) -> str:
        refusals: list[Refusal] = [r for step in self.exported.history for r in step.refusals]
        return "; ".join(r.reason for r in refusals)

    def weights(self, name: str) -> np.ndarray:
        return self.after.graph.initializers[name].const_value.numpy()


def build(
    body: str, *, x: str = "batch, 4, 6, 6", opset: int = 20, y: str = "", **weights: object
) -> Exported:
    """A graph from ONNX text: ``body`` computes y from x; weights are arrays, or shapes of random ones."""
    random = np.random.default_rng(5)
    text = f"""<ir_version: 10, opset_import: ["": {opset}]>
    net (float[{x}] x) => ({y or "float[] y"}) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    if not y:
        proto.graph.output[0].type.tensor_type.ClearField("shape")
    for name, weight in weights.items():
        array = random.standard_normal(weight).astype(np.float32) if isinstance(weight, tuple) else weight
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))
    shape = tuple(int(d) if d.strip().isdigit() else d.strip() for d in x.split(","))
    spec = (TensorSpec("x", shape),)
    return Exported("net", model, spec, (TensorSpec("y", ("batch",)),), Golden({}, {}))


@pytest.fixture
def apply() -> Callable[..., Rewritten]:
    """Build a graph and rewrite it, with the proof at two batch sizes that every rewrite goes through."""

    def run(names: str, body: str, **more: object) -> Rewritten:
        exported = build(body, **more)
        after = rewrite(exported, tuple(names.split()), evaluate=evaluate)
        onnx.checker.check_model(ir.to_proto(after.model), full_check=True)
        return Rewritten(exported.model, after.model, after)

    return run
