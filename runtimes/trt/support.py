"""Which nodes TensorRT does not take, and why: its own answer, and what it is too optimistic about.

Its parser says yes to attention in float32, which the builder then refuses, and to float64, which it computes
in float32 without a word. Both were met with TensorRT-RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from ...errors import UnsupportedError
from ...export.artifact import Step
from .order import Finding
from .words import NO_OPERATOR, parser_reason

_MOST_NAMED = 6
"""Nodes that an error names; the others are counted."""

_TURING = "SM75"
_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "Attention"})
_NEVER = {
    "DFT": "TensorRT has no Fourier transform",
    "DeformConv": NO_OPERATOR,
    "NonZero": "the size of its answer depends on the data",
    "DynamicQuantizeLinear": "scales computed at run time are not taken; quantize with calibrated ranges",
    "QLinearConv": "TensorRT takes int8 as QuantizeLinear and DequantizeLinear around float operators",
    "QLinearMatMul": "TensorRT takes int8 as QuantizeLinear and DequantizeLinear around float operators",
    "ConvInteger": "TensorRT takes int8 as QuantizeLinear and DequantizeLinear around float operators",
    "MatMulInteger": "TensorRT takes int8 as QuantizeLinear and DequantizeLinear around float operators",
}
"""Operators that it never takes, in words that say more than its own."""


@dataclass(frozen=True)
class Unsupported:
    """One node that cannot be built."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        """Name the node and the reason."""
        return f"{self.operator} {self.node!r} ({self.reason})" if self.operator else self.reason


def known(model: ir.Model, compute: str) -> tuple[Unsupported, ...]:
    """List the nodes that are known not to build, whatever the parser says.

    Args:
        model: The graph, with types inferred.
        compute: Compute capability of the GPU.
    """
    found = [
        Unsupported(label(node), node.op_type, reason)
        for node in model.graph.all_nodes()
        for reason in _reasons(node, compute)
    ]
    return (*_inputs(model), *found)


def refused(findings: Iterable[Finding], model: ir.Model) -> tuple[Unsupported, ...]:
    """Put the parser's findings into words, with the name of each node."""
    nodes = list(model.graph)
    return tuple(_worded(finding, nodes) for finding in findings)


def explained(unsupported: Iterable[Unsupported], history: Iterable[Step]) -> tuple[Unsupported, ...]:
    """Add why a node was not rewritten into something that builds, where a rewrite said so."""
    why = {refusal.where: refusal.reason for step in history for refusal in step.refusals if refusal.where}
    return tuple(
        replace(u, reason=f"{u.reason}; not rewritten since {why[u.node]}") if u.node in why else u
        for u in unsupported
    )


def require(unsupported: Iterable[Unsupported], title: str, name: str) -> None:
    """Raise when there are such nodes; each is named once, with its first reason.

    Raises:
        UnsupportedError: With every node and its reason.
    """
    each = list({(u.node, u.operator): u for u in reversed(list(unsupported))}.values())[::-1]
    if not each:
        return
    named = ", ".join(str(u) for u in each[:_MOST_NAMED])
    more = f" and {len(each) - _MOST_NAMED} more nodes" if len(each) > _MOST_NAMED else ""
    message = f"expected {title} to accept {name}, got: {named}{more}; change the model or the device"
    raise UnsupportedError(message)


def label(node: ir.Node) -> str:
    """Name a node; one without a name by its first output."""
    return node.name or next((value.name for value in node.outputs if value.name), "")


_DOUBLE = "it is in float64, which TensorRT would compute in float32"
_D = ir.DataType
_INPUTS = frozenset({_D.FLOAT, _D.FLOAT16, _D.BFLOAT16, _D.INT8, _D.UINT8, _D.INT32, _D.INT64, _D.BOOL, None})
"""Types that inputs may have; None is unknown here, and the parser decides."""


def _inputs(model: ir.Model) -> Iterator[Unsupported]:
    for value in model.graph.inputs:
        if value.dtype == _D.DOUBLE:
            yield Unsupported(value.name or "", "input", _DOUBLE)
        elif value.dtype not in _INPUTS:
            yield Unsupported(value.name or "", "input", f"TensorRT has no type for {value.dtype}")


def _reasons(node: ir.Node, compute: str) -> Iterator[str]:
    kind, types = node.op_type, {value.dtype for value in node.inputs if value is not None}
    if node.domain not in ("", "ai.onnx"):
        return
    if kind in _NEVER:
        yield _NEVER[kind]
    if kind == "Attention" and ir.DataType.FLOAT in types:
        yield "TensorRT has kernels for attention in float16 only"
    if kind == "DequantizeLinear" and _first(node) == ir.DataType.INT32:
        yield "32-bit integers are not restored to float; TensorRT takes a bias in float"
    if kind in ("QuantizeLinear", "DequantizeLinear") and _off_zero(node):
        yield "its zero point is not zero; TensorRT takes symmetric int8 only"
    if ir.DataType.DOUBLE in types:
        yield _DOUBLE
    if compute == _TURING and kind in _PRODUCTS and ir.DataType.FLOAT in types:
        yield f"float32 products do not build for {_TURING}; use --precision fp16"


def _first(node: ir.Node) -> ir.DataType | None:
    value = node.inputs[0]
    return None if value is None else value.dtype


def _off_zero(node: ir.Node) -> bool:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if zero is None else ir.convenience.get_const_tensor(zero)
    return tensor is not None and bool(tensor.numpy().astype(int).any())


def _worded(finding: Finding, nodes: list[ir.Node]) -> Unsupported:
    name, operator = finding.name, finding.operator
    if 0 <= finding.index < len(nodes):
        node = nodes[finding.index]
        operator = operator or node.op_type
        # The index of a node inside a branch counts within the branch.
        name = name or (label(node) if node.op_type == operator else "")
    reason = _NEVER.get(operator) or parser_reason(finding.text)
    return Unsupported(name, operator, reason)
