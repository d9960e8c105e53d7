"""OpenVINO's crash at stacked attentions happens in a child, and the network runs all the same."""

import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from fourfold.export.check import check
from fourfold.export.to_onnx import to_onnx
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.device import get_device
from fourfold.runtimes.ov import RUNTIME
from fourfold.runtimes.reference import evaluate

torch = pytest.importorskip("torch")
pytest.importorskip("openvino")


class Attention(torch.nn.Module):
    """x + softmax(W(LN x) (LN x)^T) V(LN x), on (B, N, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.w = torch.nn.Linear(width, width, bias=False)
        self.v = torch.nn.Linear(width, width, bias=False)

    def forward(self, x: "torch.Tensor") -> "torch.Tensor":
        y = self.norm(x)
        return x + (self.w(y) @ y.mT).softmax(-1) @ self.v(y)


def test_stacked_attentions_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(*[Attention(32) for _ in range(3)]).eval()
    inputs = (TensorSpec("x", ("batch", 49, 32)),)
    exported = to_onnx(net, "stack", inputs, ("y",), opset=20, evaluate=evaluate)
    device = get_device("cpu-openvino")
    compiled = RUNTIME.compile(exported, device, tmp_path)
    with RUNTIME.open(compiled, device) as session:
        found = check("fp32", evaluate(exported.model), session.run, inputs, names=("graph", "compiled"))
    assert all(p.ok for p in found), found


def test_a_crash_of_the_child_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from fourfold.errors import BuildError
    from fourfold.runtimes import ov_crash
    from fourfold.runtimes.ov_core import core

    real = subprocess.run

    def dies(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        return real([sys.executable, "-c", "import os; os.abort()"], capture_output=True)

    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2, 4]))
    nodes = [ir.node("Softmax", [x])]
    nodes.append(ir.node("Softmax", [nodes[0].outputs[0]]))
    y = nodes[1].outputs[0]
    y.type, y.shape = x.type, x.shape
    graph = ir.Graph([x], [y], nodes=nodes, opset_imports={"": 20}, name="two")
    model = core().read_model(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())
    monkeypatch.setattr(subprocess, "run", dies)
    with pytest.raises(BuildError, match="crash of OpenVINO"):
        ov_crash.plan_safely(model, get_device("cpu-openvino"))
