"""What TensorRT does not take, in words; without TensorRT."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from fourfold.errors import UnsupportedError
from fourfold.export.artifact import Refusal, Step
from fourfold.runtimes.trt.order import Finding
from fourfold.runtimes.trt.support import Unsupported, explained, known, refused, require
from fourfold.runtimes.trt.words import builder_reason, parser_reason


def graph(body: str, inputs: str = "float[2, 4] x", **weights: object) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["": 23]> net ({inputs}) => (float[2, 4] y) {{ {body} }}'
    proto = parser.parse_model(text)
    for name, weight in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(weight), name))
    return ir.from_proto(proto)


ATTENTION = "y = Attention(q, k, v)"
HEADS = "{0}[2, 3, 6, 8] q, {0}[2, 3, 6, 8] k, {0}[2, 3, 6, 8] v"
ONE, ZERO, FIVE = np.float32(1), np.int8(0), np.int8(5)


@pytest.mark.parametrize(
    ("body", "inputs", "weights", "compute", "node", "reason"),
    [
        (ATTENTION, HEADS.format("float"), {}, "SM89", "y", "attention in float16 only"),
        ("a = DFT(x) y = Identity(a)", "float[2, 4, 2] x", {}, "SM89", "a", "no Fourier transform"),
        (
            "y = DequantizeLinear(b, s)",
            "float[2, 4] x",
            {"b": np.ones(4, np.int32), "s": ONE},
            "SM89",
            "y",
            "bias",
        ),
        ("y = QuantizeLinear(x, s, z)", "float[2, 4] x", {"s": ONE, "z": FIVE}, "SM89", "y", "zero point"),
        ("y = Cast<to=1>(x)", "int16[2, 4] x", {}, "SM89", "x", "no type for INT16"),
        (
            "y = Relu(x)",
            "double[2, 4] x",
            {},
            "SM89",
            "y",
            "float64, which TensorRT would compute in float32",
        ),
        (
            "y = MatMul(x, w)",
            "float[2, 4] x",
            {"w": np.ones((4, 4), np.float32)},
            "SM75",
            "y",
            "use --precision",
        ),
        (
            "c = Cast<to=9>(g) y = If(c) <then_branch = t () => (float[2, 4] p) { p = DynamicThing(x) }, "
            "else_branch = e () => (float[2, 4] n) { n, i = NonZeroes(x) m = NonZero(n) }>",
            *("float[2, 4] x", {"g": np.float32(1)}, "SM89", "m", "depends on the data"),
        ),
    ],
)
def test_what_is_known_has_its_reason(
    body: str, inputs: str, weights: dict[str, object], compute: str, node: str, reason: str
) -> None:
    found = known(graph(body, inputs, **weights), compute)
    assert any(u.node == node and reason in u.reason for u in found)


@pytest.mark.parametrize(
    ("body", "inputs", "weights", "compute"),
    [
        (ATTENTION, HEADS.format("float16"), {}, "SM89"),
        ("y = QuantizeLinear(x, s, z)", "float[2, 4] x", {"s": ONE, "z": ZERO}, "SM89"),
        ("y = QuantizeLinear(x, s)", "float[2, 4] x", {"s": ONE}, "SM89"),
        ("y = MatMul(x, w)", "float[2, 4] x", {"w": np.ones((4, 4), np.float32)}, "SM80"),
        ("y = MatMul(x, w)", "float16[2, 4] x", {"w": np.ones((4, 4), np.float16)}, "SM75"),
    ],
)
def test_what_builds_is_not_refused(body: str, inputs: str, weights: dict[str, object], compute: str) -> None:
    assert known(graph(body, inputs, **weights), compute) == ()


def test_findings_get_the_names_of_nodes() -> None:
    model = graph("a = Relu(x) b = Strange(a) y = Relu(b)")
    text = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
    findings = [
        Finding(1, "", "Strange", text),
        Finding(1, "", "Odd", "Assertion failed: a == b: sizes differ."),
        Finding(0, "named", "Relu", "false"),
        Finding(-1, "", "", 'Assertion failed: convert(x) && "Failed to convert the type."'),
    ]
    assert refused(findings, model) == (
        Unsupported("b", "Strange", "TensorRT has no such operator"),
        Unsupported("", "Odd", "sizes differ"),
        Unsupported("named", "Relu", "TensorRT does not take this operator"),
        Unsupported("", "", "Failed to convert the type"),
    )


def test_each_node_is_named_once_with_its_first_reason() -> None:
    found = [
        Unsupported("a", "Odd", "first"),
        Unsupported("a", "Odd", "second"),
        Unsupported("", "", "third"),
    ]
    with pytest.raises(
        UnsupportedError, match=r"T to accept net, got: Odd 'a' \(first\), third; change"
    ) as caught:
        require(found, "T", "net")
    assert caught.value.exit_code == 1


def test_a_node_that_could_not_be_rewritten_says_why() -> None:
    steps = [Step("rewrite: r", "", refusals=(Refusal("a", "its scores are capped"), Refusal("", "other")))]
    first, second = explained([Unsupported("a", "Odd", "no"), Unsupported("b", "Odd", "no")], steps)
    assert first.reason == "no; not rewritten since its scores are capped"
    assert second.reason == "no"


def test_many_nodes_are_counted() -> None:
    found = [Unsupported(f"n{i}", "Odd", "no") for i in range(9)]
    with pytest.raises(UnsupportedError, match=r"Odd 'n5' \(no\) and 3 more nodes; change"):
        require(found, "T", "net")


def test_nothing_to_refuse_raises_nothing() -> None:
    require([], "T", "net")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Invalid Node - bd\nITensor::getDimensions: Error Code 4: API Usage Error (bd: input has type "
            "Int32 but must have type Int8, or UInt8. In checkType at /_src/base.cpp:4)\n[x.cpp::y]",
            "input has type Int32 but must have type Int8, or UInt8",
        ),
        (
            "Assertion failed: a->getType() == nvinfer1::DataType::kHALF: input tensor A must be FP16.",
            "input tensor A must be FP16",
        ),
        (
            "Assertion failed: zeros(p): Non-zero zero point is not supported. Please set kENABLE_SOMETHING.",
            "Non-zero zero point is not supported",
        ),
        ("Assertion failed: creator: NonZero plugin creator was not found.", "TensorRT has no such operator"),
        ("something else.", "something else"),
    ],
)
def test_the_parsers_words_become_a_reason(text: str, reason: str) -> None:
    assert parser_reason(text) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing] Cannot "
            "compile operation 'm' for Turing (SM75): FP32 GEMM is not supported. In f at /a.cpp:2)",
            "Cannot compile operation 'm' for Turing (SM75): FP32 GEMM is not supported",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([graph.h:1295: attach] "
            "MyelinCheckException: ops.cpp:59: CHECK(op->is_decomposable()) failed. Attention operation was "
            "not supported by a dedicated kernel.  (See https://a.example) Alternatively, do this.)",
            "Attention operation was not supported by a dedicated kernel",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic "
            "inputs, but no profile. In f at /a.cpp:4)",
            "Network has dynamic inputs, but no profile",
        ),
    ],
)
def test_the_builders_words_become_a_reason(text: str, reason: str) -> None:
    assert builder_reason(text) == reason
