"""What the engines make of a quantized graph: integer kernels, and the same answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.calibration.collect import collect
from fourfold.calibration.qdq import quantize
from fourfold.calibration.scheme import COREML, OPENVINO, ORT_X86, SYMMETRIC, QdqStyle, QuantScheme
from fourfold.export.artifact import Exported, Feed
from fourfold.runtimes.reference import evaluate

from .conftest import samples_of


def quantized(exported: Exported, tmp_path: Path, style: QdqStyle) -> Exported:
    scheme = QuantScheme()
    ranges = collect(exported, samples_of(exported, tmp_path), scheme, evaluate=evaluate)
    return quantize(exported, ranges, style, scheme, evaluate=evaluate)


def fused(exported: Exported, tmp_path: Path) -> Counter[str]:
    """Name the operators that ONNX Runtime runs after its optimizations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    data = ir.to_proto(exported.model).SerializeToString()
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)


def openvino(exported: Exported, feed: Feed) -> tuple[np.ndarray, Counter[str]]:
    """Run in OpenVINO on one thread and name the layers by the precision that they ran in."""
    ov = pytest.importorskip("openvino")
    core = ov.Core()
    model = core.read_model(ir.to_proto(exported.model).SerializeToString())
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", options)
    answer = compiled([feed["x"]])[0]
    kinds: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kinds[f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}"] += 1
    return np.array(answer), kinds


def close(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(one**2) / np.sum((one - other) ** 2)))


def test_onnx_runtime_runs_the_convolutional_network_in_integers(convnet: Exported, tmp_path: Path):
    kinds = fused(quantized(convnet, tmp_path, ORT_X86), tmp_path)
    assert kinds["QLinearConv"] == 3
    assert kinds["QLinearAdd"] == 1
    assert kinds["QGemm"] == 1
    assert kinds["QLinearGlobalAveragePool"] == 1
    assert not {"Conv", "FusedConv", "Add", "Gemm", "Relu", "GlobalAveragePool"} & set(kinds)
    assert kinds["QuantizeLinear"] == 1, "the input alone is quantized on the way"


def test_onnx_runtime_runs_the_products_of_attention_in_integers(attention: Exported, tmp_path: Path):
    kinds = fused(quantized(attention, tmp_path, ORT_X86), tmp_path)
    assert kinds["MatMulIntegerToFloat"] == 4
    assert kinds["MatMul"] + kinds["FusedMatMul"] == 2


@pytest.mark.parametrize("style", [ORT_X86, COREML], ids=["ort", "coreml"])
def test_onnx_runtime_optimized_answers_as_the_graph_says(convnet: Exported, tmp_path: Path, style: QdqStyle):
    import onnxruntime as ort

    result = quantized(convnet, tmp_path, style)
    data = ir.to_proto(result.model).SerializeToString()
    answer = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(
        None, dict(convnet.golden.inputs)
    )
    assert close(evaluate(result.model)(convnet.golden.inputs)["y"], answer[0]) > 30


@pytest.mark.parametrize("style", [OPENVINO, SYMMETRIC, ORT_X86], ids=["openvino", "s8s8", "ort"])
def test_openvino_runs_the_convolutional_network_in_integers(
    convnet: Exported, tmp_path: Path, style: QdqStyle
):
    result = quantized(convnet, tmp_path, style)
    answer, kinds = openvino(result, convnet.golden.inputs)
    assert close(evaluate(result.model)(convnet.golden.inputs)["y"], answer) > 25
    layers = {k: n for k, n in kinds.items() if k.startswith(("Convolution", "FullyConnected"))}
    assert sum(layers.values()) == 4
    assert all(k.endswith(("i8", "u8")) for k in layers), layers


def test_openvino_runs_attention_in_integers(attention: Exported, tmp_path: Path):
    result = quantized(attention, tmp_path, OPENVINO)
    answer, kinds = openvino(result, attention.golden.inputs)
    assert close(evaluate(result.model)(attention.golden.inputs)["y"], answer) > 25
    assert sum(n for k, n in kinds.items() if k.startswith("FullyConnected") and k.endswith("8")) == 4
    # One fused region holds both products; it is named after its integer inputs.
    assert kinds["Subgraph i8"] == 1
