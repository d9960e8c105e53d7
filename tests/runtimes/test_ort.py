"""What is particular to ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fourfold.errors import RunError
from fourfold.export.artifact import Exported
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.ort import RUNTIME

DEVICE = get_device("cpu-ort")
Build = Callable[..., Exported]


def test_nodes_on_shapes_are_no_part_of_what_ran(build: Build, tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    net (float[batch, 4] x) => (float[4, batch] y) {
      s = Shape(x)  r = Gather(s, order)  m = Reshape(x, r)  y = Sqrt(m)
    }"""
    exported = build(text, {"x": np.ones((2, 4), np.float32)}, order=np.array([1, 0]))
    with RUNTIME.open(RUNTIME.compile(exported, DEVICE, tmp_path), DEVICE) as session:
        session.run(exported.golden.inputs)
        (executed,) = session.executed()
    assert (executed.provider, executed.precision, executed.nodes) == ("CPUExecutionProvider", "fp32", 2)


def test_the_branch_that_ran_is_the_one_reported(build: Build, tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    net (float[batch, 4] x, bool c) => (float[batch, 4] y) {
      y = If(c) <then_branch = yes () => (float[batch, 4] a) { a = Sqrt(x) },
                 else_branch = no () => (float[batch, 4] b) { d = Exp(x)  e = Neg(d)  b = Sin(e) }>
    }"""
    x = np.ones((2, 4), np.float32)
    exported = build(text, {"x": x, "c": np.array(True)})
    with RUNTIME.open(RUNTIME.compile(exported, DEVICE, tmp_path), DEVICE) as session:
        counts: list[int] = []
        for truth in (True, False):
            session.run({"x": x, "c": np.array(truth)})
            counts.append(sum(part.nodes for part in session.executed()))
    assert counts[1] - counts[0] == 2


def test_more_threads_give_the_same_answer(build: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(64, 64)).astype(np.float32)
    text = """<ir_version: 10, opset_import: ["": 20]>
    net (float[n, 64] x) => (float[n, 64] y) { y = MatMul(x, w) }"""
    exported = build(text, {"x": rng.normal(size=(8, 64)).astype(np.float32)}, w=w)
    device = Device("two", "Two threads", "ort", "any", threads=2)
    with RUNTIME.open(RUNTIME.compile(exported, device, tmp_path), device) as session:
        answer = session.run(exported.golden.inputs)
    np.testing.assert_allclose(answer["y"], exported.golden.outputs["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    folder = tmp_path / "compiled"
    folder.mkdir()
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> net (float[4] x) => (float[4] y) { y = Add(x, w) }'
    )
    tensor = model.graph.initializer.add(
        name="w", dims=[4], data_type=onnx.TensorProto.FLOAT, data_location=onnx.TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=location)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        RunError, match=r"expected ONNX Runtime to open model\.onnx, got: .+; compile it again"
    ):
        RUNTIME.open(folder / "model.onnx", DEVICE)


def test_inputs_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> net (string[4] x) => (string[4] y) { y = Identity(x) }'
    (tmp_path / "model.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(RunError, match=r"expected inputs of numbers, got x of tensor\(string\)"):
        RUNTIME.open(tmp_path / "model.onnx", DEVICE)
