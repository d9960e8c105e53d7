"""Small questions about an onnx_ir graph that quantization asks again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from ..export.artifact import Array

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply by weights."""

MERGING = frozenset(
    {"Add", "Mul", "Sub", "Concat", "AveragePool", "GlobalAveragePool", "ReduceMean", "Resize"}
)
"""Operators with an integer kernel but no weights: worth it only between others."""

PASSING = frozenset(
    {"MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice", "DepthToSpace"}
    | {"SpaceToDepth", "Expand", "Tile"}
)
"""Operators that move values without changing them: input and outputs share one grid."""

CLAMPING = frozenset({"Relu", "Clip"})
"""Operators that vanish into the quantization of their answer."""


def label(node: ir.Node) -> str:
    """Name a node for people."""
    return node.name or f"{node.op_type} of {node.outputs[0].name}"


def constant(value: ir.Value | None) -> Array | None:
    """Read a value that never changes, or None."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or value.is_graph_input() else np.asarray(tensor.numpy())


def activations(node: ir.Node) -> list[ir.Value]:
    """List the data inputs that change from sample to sample; shapes, axes and limits are not data."""
    data = node.inputs[: 1 if node.op_type in PASSING | CLAMPING | {"Resize", "ReduceMean"} else None]
    return [v for v in data if v is not None and constant(v) is None]


def answers(node: ir.Node) -> list[ir.Value]:
    """List the data outputs of a node; the indices of a MaxPool are not data."""
    return list(node.outputs if node.op_type == "Split" else node.outputs[:1])


def clamped(value: ir.Value) -> ir.Value:
    """Follow a value through the Relu or Clip that is its only reader."""
    readers = value.consumers()
    lone = len(readers) == 1 and not value.is_graph_output()
    if (
        lone
        and readers[0].op_type in CLAMPING
        and readers[0].graph is value.graph
        and readers[0].inputs[0] is value
    ):
        return readers[0].outputs[0]
    return value


def origin(value: ir.Value) -> ir.Value:
    """Follow a value back to where it was computed, past everything that only moves it."""
    node = value.producer()
    while node is not None and node.op_type in PASSING and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def range_of(value: ir.Value, ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float] | None:
    """Look up the range of a value; one that was only moved has that of its origin."""
    return ranges.get(value.name or "") or ranges.get(origin(value).name or "")


def source(value: ir.Value) -> ir.Node | None:
    """Find the node that computes a value, looking through a Relu or Clip that it is fused with."""
    node = value.producer()
    if node is not None and node.op_type in CLAMPING:
        inner = node.inputs[0]
        maker = None if inner is None or clamped(inner) is not value else inner.producer()
        return maker if maker is not None and maker.op_type not in PASSING else node
    return node


def nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Walk the nodes of the main graph that belong to ONNX itself."""
    return (n for n in graph if n.domain in ("", "ai.onnx"))
