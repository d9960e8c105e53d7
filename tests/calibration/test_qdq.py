from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.calibration.collect import collect
from fourfold.calibration.placement import place
from fourfold.calibration.qdq import quantize
from fourfold.calibration.ranges import Ranges
from fourfold.calibration.scheme import ARM, OPENVINO, ORT_X86, SYMMETRIC, QdqStyle, QuantScheme
from fourfold.errors import BuildError
from fourfold.export.artifact import Exported
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

from .conftest import REAL, network, normal, samples_of

STYLES = (ORT_X86, OPENVINO, SYMMETRIC, ARM)
DEFAULT = QuantScheme()
each_style = pytest.mark.parametrize("style", STYLES, ids=lambda s: s.name)


def quantized(exported: Exported, tmp_path: Path, style: QdqStyle, scheme: QuantScheme = DEFAULT) -> Exported:
    ranges = collect(exported, samples_of(exported, tmp_path), scheme, evaluate=evaluate)
    return quantize(exported, ranges, style, scheme, evaluate=evaluate)


def sqnr(exported: Exported) -> float:
    return exported.history[-1].parity[0].sqnr_db


def stored_in(exported: Exported, dtype: ir.DataType) -> list[np.ndarray]:
    """Stored integers that are not zero points."""
    held = [v for v in exported.model.graph.initializers.values() if v.dtype == dtype]
    return [v.const_value.numpy() for v in held if "_zero" not in v.name]


def operators(exported: Exported) -> Counter[str]:
    return Counter(n.op_type for n in exported.model.graph)


@each_style
def test_a_convolutional_network_stays_close_to_float(convnet: Exported, tmp_path: Path, style: QdqStyle):
    result = quantized(convnet, tmp_path, style)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    assert result.precision == "int8"
    assert result.history[-1].name == f"quantize: {style.name}"
    assert result.history[-1].changed >= 5
    assert sqnr(result) > 25
    assert [o.name for o in result.model.graph.outputs] == ["y"]


@each_style
def test_attention_stays_close_to_float(attention: Exported, tmp_path: Path, style: QdqStyle):
    result = quantized(attention, tmp_path, style)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    assert sqnr(result) > 25
    reasons = {r.where: r.reason for r in result.history[-1].refusals}
    assert any("attention weights" in r or "not constant" in r for r in reasons.values())


def test_the_float_graph_is_left_alone(convnet: Exported, tmp_path: Path):
    before = operators(convnet)
    feed = dict(convnet.golden.inputs)
    answer = evaluate(convnet.model)(feed)["y"]
    quantized(convnet, tmp_path, ORT_X86)
    assert operators(convnet) == before
    np.testing.assert_array_equal(evaluate(convnet.model)(feed)["y"], answer)


def test_weights_are_stored_as_int8_with_a_scale_per_channel(convnet: Exported, tmp_path: Path):
    stored = quantized(convnet, tmp_path, ORT_X86).model.graph.initializers
    assert not {"w1", "w2", "b1"} & set(stored)
    integers = stored["w1_int8"].const_value.numpy()
    scales = stored["w1_int8_scale"].const_value.numpy()
    float_weight = convnet.model.graph.initializers["w1"].const_value.numpy()
    assert integers.dtype == np.int8
    assert scales.shape == (8,)
    np.testing.assert_allclose(integers * scales.reshape(8, 1, 1, 1), float_weight, atol=0.51 * scales.max())


def test_a_bias_is_int32_on_the_product_of_scales_only_where_asked(convnet: Exported, tmp_path: Path):
    result = quantized(convnet, tmp_path, ORT_X86)
    stored = result.model.graph.initializers
    assert len(stored_in(result, ir.DataType.INT32)) == 4
    scale = stored["x_scale"].const_value.numpy() * stored["w1_int8_scale"].const_value.numpy()
    np.testing.assert_array_equal(stored["a_bias_int32_scale"].const_value.numpy(), scale)
    assert not stored_in(quantized(convnet, tmp_path, SYMMETRIC), ir.DataType.INT32)


@pytest.mark.parametrize("style", [ORT_X86, SYMMETRIC], ids=["u8", "s8"])
def test_zero_is_exact_everywhere(convnet: Exported, tmp_path: Path, style: QdqStyle):
    graph = quantized(convnet, tmp_path, style).model.graph
    for node in graph:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero = (v.const_value.numpy() for v in node.inputs[1:])
        assert zero.dtype == (np.uint8 if style.activations == "uint8" else np.int8)
        assert (np.rint(0.0 / scale) + zero - zero) * scale == 0.0
        assert style.activations == "uint8" or zero == 0


def test_one_pair_per_activation_however_many_readers(attention: Exported, tmp_path: Path):
    result = quantized(attention, tmp_path, ORT_X86)
    read = [n.inputs[0].name for n in result.model.graph if n.op_type == "QuantizeLinear"]
    assert sorted(read) == sorted(set(read))
    assert "n" in read


def test_quantization_follows_the_activation_function_not_the_convolution(convnet: Exported, tmp_path: Path):
    result = quantized(convnet, tmp_path, ORT_X86)
    read = {n.inputs[0].name for n in result.model.graph if n.op_type == "QuantizeLinear"}
    assert {"ar", "br", "dr"} <= read
    assert not {"a", "b", "d"} & read


def test_values_that_are_only_moved_keep_their_grid(convnet: Exported, tmp_path: Path):
    stored = quantized(convnet, tmp_path, ORT_X86).model.graph.initializers
    for name in ("scale", "zero"):
        assert stored[f"p_{name}"].const_value.numpy() == stored[f"dr_{name}"].const_value.numpy()


def test_reduced_range_keeps_weights_within_seven_bits(convnet: Exported, tmp_path: Path):
    reduced = quantized(convnet, tmp_path, ORT_X86, QuantScheme(reduce_range=True))
    weights = stored_in(reduced, ir.DataType.INT8)
    assert max(np.abs(w.astype(int)).max() for w in weights) == 64
    assert sqnr(reduced) > 25


def test_a_scale_per_channel_keeps_small_channels(tmp_path: Path):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch,64] x) => (float[batch,3] y) { y = MatMul (x, w) }
    """
    weights = {"w": normal(0, 64, 3) * np.array([0.01, 1, 10], np.float32)}
    net = network(text, weights, (TensorSpec("x", ("batch", 64)),), batch=64)
    errors = []
    for per_channel in (True, False):
        result = quantized(net, tmp_path, ORT_X86, QuantScheme(per_channel=per_channel))
        answer = evaluate(result.model)(net.golden.inputs)["y"]
        errors.append(np.mean((answer - net.golden.outputs["y"]) ** 2, axis=0))
    assert result.model.graph.initializers["w_int8_scale"].const_value.shape.rank() == 0
    assert errors[0][0] < 0.01 * errors[1][0]


def test_first_last_and_named_nodes_stay_in_float(convnet: Exported, tmp_path: Path):
    scheme = QuantScheme(keep_first=True, keep_last=True, keep=frozenset({"b"}))
    result = quantized(convnet, tmp_path, ORT_X86, scheme)
    assert {"w1", "w2", "w4"} <= set(result.model.graph.initializers)
    reasons = Counter(r.reason for r in result.history[-1].refusals)
    assert reasons["the scheme keeps the first or last layer in float"] == 2
    assert reasons["the scheme keeps it in float"] == 1


def test_shared_weights_are_stored_once(tmp_path: Path):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch,6] x) => (float[batch,6] z) { y = MatMul (x, w) z = MatMul (y, w) }
    """
    net = network(text, {"w": normal(0, 6, 6)}, (TensorSpec("x", ("batch", 6)),))
    result = quantized(net, tmp_path, ORT_X86)
    assert len(stored_in(result, ir.DataType.INT8)) == 1
    assert sqnr(result) > 30


@pytest.mark.parametrize("style", [OPENVINO, SYMMETRIC], ids=["u8", "s8"])
def test_a_transposed_convolution_has_its_channels_on_the_second_axis(tmp_path: Path, style: QdqStyle):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch,4,5,5] x) => (float[batch,6,10,10] y) {
        y = ConvTranspose <kernel_shape = [2,2], strides = [2,2]> (x, w, b)
    }
    """
    scale = np.linspace(0.1, 5, 6, dtype=np.float32).reshape(1, 6, 1, 1)
    weights = {"w": normal(0, 4, 6, 2, 2) * scale, "b": normal(1, 6)}
    net = network(text, weights, (TensorSpec("x", ("batch", 4, 5, 5)),))
    result = quantized(net, tmp_path, style)
    assert result.model.graph.initializers["w_int8_scale"].const_value.numpy().shape == (6,)
    assert sqnr(result) > 30


def test_a_gemm_takes_its_channels_from_the_right_axis(tmp_path: Path):
    scale = np.linspace(0.05, 5, 7, dtype=np.float32)
    for transposed in (0, 1):
        text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        net (float[batch,9] x) => (float[batch,7] y) {{ y = Gemm <transB = {transposed}> (x, w, b) }}
        """
        weight = normal(0, 9, 7) * scale
        weights = {"w": weight.T.copy() if transposed else weight, "b": normal(1, 7)}
        net = network(text, weights, (TensorSpec("x", ("batch", 9)),))
        result = quantized(net, tmp_path, ORT_X86)
        assert result.model.graph.initializers["w_int8_scale"].const_value.numpy().shape == (7,)
        assert sqnr(result) > 30


SMALL = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,CH,8,8] x) => (float[batch,CH,8,8] y) {
    a = Conv <pads = [1,1,1,1]GROUP> (x, w)
    s = Sigmoid (a)
    y = Mul (a, s)
}
"""


@pytest.mark.parametrize(("channels", "group", "taken"), [(16, 16, False), (16, 1, True)])
def test_a_small_layer_beside_a_float_activation_function_stays_in_float(
    tmp_path: Path, channels: int, group: int, taken: bool
):
    text = SMALL.replace("CH", str(channels)).replace("GROUP", f", group = {group}")
    weights = {"w": normal(0, channels, channels // group, 3, 3)}
    net = network(text, weights, (TensorSpec("x", ("batch", channels, 8, 8)),))
    ranges = collect(net, samples_of(net, tmp_path), QuantScheme(), evaluate=evaluate)
    placement = place(net.model, ranges.values, ORT_X86, QuantScheme())
    assert (placement.nodes == ("a",)) is taken
    if not taken:
        assert "next to Sigmoid" in placement.refusals[0].reason


@pytest.mark.parametrize(
    ("axis", "style", "taken"), [(-1, OPENVINO, 1), (3, OPENVINO, 1), (1, OPENVINO, 2), (-1, SYMMETRIC, 2)]
)
def test_a_layer_before_a_new_last_axis_stays_in_float_where_scales_cannot_follow(
    tmp_path: Path, axis: int, style: QdqStyle, taken: int
):
    text = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch,6,8] x) => (float y) {
    a = MatMul (x, w)
    b = MatMul (x, v)
    c = Unsqueeze (a, axis)
    d = ReduceMean <keepdims = 0> (c, axis)
    y = Mul (d, b)
}
"""
    weights = {"w": normal(0, 8, 8), "v": normal(1, 8, 8), "axis": np.array([axis])}
    net = network(text, weights, (TensorSpec("x", ("batch", 6, 8)),))
    lifted = next(node for node in net.model.graph if node.op_type == "Unsqueeze").outputs[0]
    lifted.shape = ir.Shape(["batch", 1, 6, 8] if axis == 1 else ["batch", 6, 8, 1])
    ranges = collect(net, samples_of(net, tmp_path), QuantScheme(), evaluate=evaluate)
    placement = place(net.model, ranges.values, style, QuantScheme())
    assert len(placement.nodes) == taken
    assert any("new last axis" in r.reason for r in placement.refusals) is (taken == 1)


def test_degenerate_and_missing_ranges_are_refused_with_their_reason(convnet: Exported):
    known = dict.fromkeys(("x", "ar", "br", "c", "dr", "p", "g", "f", "y"), (-1.0, 1.0))
    for change, reason in (
        ({"br": (0.0, 0.0)}, "all zero"),
        ({"br": (0.0, np.inf)}, "not finite"),
        ({"br": None}, "no range of br"),
    ):
        ranges = {k: v for k, v in (known | change).items() if v is not None}
        placement = place(convnet.model, ranges, ORT_X86, QuantScheme())
        assert any(reason in r.reason for r in placement.refusals)
        assert "b" not in placement.nodes
        assert "br" not in placement.tensors


def test_nothing_to_quantize_is_an_error_that_says_why(convnet: Exported):
    with pytest.raises(BuildError, match=r"got none \(.*no range of"):
        quantize(convnet, Ranges({}, REAL, "minmax"), ORT_X86, QuantScheme(), evaluate=evaluate)


def test_an_old_opset_is_refused(convnet: Exported, tmp_path: Path):
    model = convnet.model.clone()
    model.graph.opset_imports[""] = 12
    with pytest.raises(BuildError, match="opset 13 or later to quantize, got 12"):
        quantized(replace(convnet, model=model), tmp_path, ORT_X86)


def test_an_output_that_an_engine_rounds_keeps_its_name(tmp_path: Path):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch,3,8,8] x) => (float[batch,4,8,8] y, float[batch,4,8,8] m) {
        y = Conv <pads = [1,1,1,1]> (x, w, b)
        m = Conv <pads = [1,1,1,1]> (y, v)
    }
    """
    weights = {"w": normal(0, 4, 3, 3, 3), "b": normal(1, 4), "v": normal(2, 4, 4, 3, 3)}
    net = network(text, weights, (TensorSpec("x", ("batch", 3, 8, 8)),))
    result = quantized(net, tmp_path, ORT_X86)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    assert [o.name for o in result.model.graph.outputs] == ["y", "m"]
    assert set(evaluate(result.model)(net.golden.inputs)) == {"y", "m"}
    assert sqnr(result) > 30


def test_real_inputs_are_compared_too(convnet: Exported, tmp_path: Path):
    scheme = QuantScheme()
    samples = samples_of(convnet, tmp_path)
    ranges = collect(convnet, samples, scheme, evaluate=evaluate)
    result = quantize(convnet, ranges, ORT_X86, scheme, evaluate=evaluate, feeds=(next(samples.batches(6)),))
    assert [p.batch for p in result.history[-1].parity] == [2, 6]
    assert all(p.ok for p in result.history[-1].parity)
