"""What a build log and an inspector say of fused layers."""

import json

import pytest

from fourfold.runtimes.sessions import MOVED, OTHER
from fourfold.runtimes.trt.layers import (
    Layer,
    Tensor,
    from_inspector,
    from_log,
    layers_from_json,
    layers_to_json,
    memory_from_log,
)

X = "{ Name: x, Dimensions: [-1,3,8,8], Strides: [192,64,8,1], StrideOrder: [3,2,1,0], Datatype: Half, "
X += "Format: (Linear) Row major linear format }"
S = X.replace("[-1,3,8,8]", "[]").replace("Half", "Float").replace("Name: x", "Name: odd ] name, { of it")
LOG = f"""Layers:
Name: conv, act_1, LayerType: correlation, Inputs: [ {X}], Constants: [ {S}], Outputs: [ {X}, {S}], \
TacticName: kernel_0x1, StreamId: 0, Metadata: [ONNX Layer: conv]\x1f[ONNX Layer: act [0]]
Name: jump, LayerType: cjmp, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, \
JumpTargetThen: a, JumpTargetElse: b, Metadata: [ONNX Layer: if]
Name: last, LayerType: kgen, Inputs: [ {X}], Outputs: [], TacticName: , StreamId: 0, Metadata:\x20

I/O Tensors:
 Name: x, IOMode: Input, DataType: Float, Dimensions: [-1,4], Location: Device
"""
"""Two layers as they are logged, one as an engine without constants would log it, and what follows them."""

HALF, ODD = Tensor("x", "Half", (-1, 3, 8, 8)), Tensor("odd ] name, { of it", "Float", ())


def test_a_log_is_read_with_odd_names() -> None:
    conv, jump, last = from_log(["Total Weights Memory: 5 bytes", LOG])
    assert conv == Layer(
        *("conv, act_1", "correlation", "kernel_0x1", (HALF,), (ODD,), (HALF, ODD)), ("conv", "act [0]")
    )
    assert (jump.name, jump.kind, jump.inputs, jump.nodes) == ("jump", "cjmp", (), ("if",))
    assert (last.name, last.inputs, last.constants, last.nodes) == ("last", (HALF,), (), ())


def test_a_log_without_layers_lists_none() -> None:
    assert from_log(["Layer: x Scratch Memory: 3 bytes"]) == ()


def test_memory_is_read_by_purpose() -> None:
    lines = ["Total Weights Memory: 1032 bytes", "Max Scratch Memory: 0 bytes", "Total time: 3 bytes"]
    assert memory_from_log(lines) == {"Weights": 1032, "Scratch": 0}


def test_layers_survive_their_file() -> None:
    layers = from_log([LOG])
    entries = json.loads(json.dumps(layers_to_json(layers)))
    assert layers_from_json(entries) == layers
    assert [entry["precision"] for entry in entries] == ["fp16", OTHER, "fp16"]


@pytest.mark.parametrize(
    ("kind", "read", "written", "precision"),
    [
        ("gemm", ["Int8"], ["Float"], "int8"),
        ("correlation", ["Int8", "Float"], ["Int8"], "int8"),
        ("gemm", ["Float"], ["Float"], "fp32"),
        ("fusion", ["BFloat16"], ["BFloat16"], "bf16"),
        # Quantizing and restoring are float arithmetic.
        ("kgen", ["Float"], ["Int8"], "fp32"),
        ("kgen", ["Int8"], ["Half"], "fp16"),
        ("kgen", ["Int8"], ["Int8"], MOVED),
        ("kgen", ["Float"], ["Half"], "fp32"),
        ("kgen", ["Int64"], ["Bool"], OTHER),
        ("memset", [], ["Float"], OTHER),
        ("kgen", [], ["Float"], "fp32"),
    ],
)
def test_precision_is_that_of_the_arithmetic(
    kind: str, read: list[str], written: list[str], precision: str
) -> None:
    inputs, outputs = (tuple(Tensor("t", t, (1,)) for t in types) for types in (read, written))
    assert Layer("l", kind, "", inputs, (), outputs, ()).precision == precision


def test_an_inspector_is_read_in_both_dialects() -> None:
    new = {"Name": "x", "Datatype": "Half", "Dimensions": [-1, 3, 8, 8]}
    old = {"Name": "x", "Format/Datatype": "Row major linear FP16 format", "Dimensions": [-1, 3, 8, 8]}
    facts = {"Name": "c", "LayerType": "gemm", "TacticName": "k", "Metadata": "[ONNX Layer: a]\x1e"}
    text = json.dumps({"Layers": [facts | {"Inputs": [new]}, facts | {"Inputs": [old]}, "named only"]})
    first, second, named = from_inspector(text)
    assert first == second == Layer("c", "gemm", "k", (HALF,), (), (), ("a",))
    assert first.precision == "fp16"
    assert (named.name, named.precision) == ("named only", OTHER)


@pytest.mark.parametrize("text", ["[]", "{}", '{"Layers": {}}', "no JSON"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"list of layers|Expecting value"):
        from_inspector(text)
