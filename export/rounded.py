"""What float16 costs, for an evaluator that has no float16 kernels: float32 with every rounding written out.

Before::

    y = Mul(x, w)                 x, w, y float16
    z = Sin(y)

After::

    y = Mul(x, w)                 x, w, y float32, w one of the numbers that float16 has
    y_bits = Cast<to = FLOAT16>(y)
    y_rounded = Cast<to = FLOAT>(y_bits)
    z = Sin(y_rounded)

ONNX Runtime computes a float16 node in float32 where the processor cannot, between casts of its own making.
Pairs of these it drops, so that ``y`` would reach ``Sin`` unrounded: a thousand times too precise at 1000.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .rules.graph import is_op

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT

_EXACT = frozenset(
    (
        *("Abs", "Clip", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND"),
        *("Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape"),
        *("ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Tile", "TopK", "Transpose"),
        *("Unsqueeze", "Where"),
    )
)
"""Operators whose answers are numbers that they read, or those without a sign."""


def rounded(model: ir.Model) -> ir.Model:
    """Give the same network with its float16 tensors in float32, each rounded to float16 where it is made.

    Args:
        model: The graph, with float16 in its main graph only; it stays as it is, and so do the types of its
            inputs and outputs.
    """
    copy = model.clone()
    narrow = {i: value.name for i, value in enumerate(copy.graph.outputs) if value.dtype == _HALF}
    for i, name in narrow.items():
        copy.graph.outputs[i].name = f"{name}_wide"
    for value in copy.graph.inputs:
        if value.dtype == _HALF:
            _widen(copy.graph, value)
    for value in copy.graph.initializers.values():
        if value.dtype == _HALF and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(_FLOAT)
    for node in list(copy.graph):
        halves = [value for value in node.outputs if value.dtype == _HALF]
        for value in halves:
            value.type = ir.TensorType(_FLOAT)
            if not is_op(node, *_EXACT):
                _round(copy.graph, value, node)
        if halves:
            _retype(node)
    for i, name in narrow.items():
        _narrow(copy.graph, i, name or "")
    return copy


def _widen(graph: ir.Graph, value: ir.Value) -> None:
    """Let everybody who reads a float16 input read it as float32."""
    cast = ir.node("Cast", [value], {"to": int(_FLOAT)}, name=f"{value.name}/wide")
    _declare(cast.outputs[0], f"{value.name}_wide", _FLOAT, value)
    ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    cast.replace_input_with(0, value)
    graph.insert_before(graph.node(0), cast)


def _narrow(graph: ir.Graph, index: int, name: str) -> None:
    """Give an output its float16 back, under its name."""
    value = graph.outputs[index]
    cast = ir.node("Cast", [value], {"to": int(_HALF)}, name=f"{name}/narrow")
    _declare(cast.outputs[0], name, _HALF, value)
    graph.append(cast)
    graph.outputs[index] = cast.outputs[0]


def _declare(value: ir.Value, name: str, dtype: ir.DataType, like: ir.Value) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(dtype), like.shape


def _round(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    """Let everybody who reads a value read it through float16."""
    bits = ir.node("Cast", [value], {"to": int(_HALF)}, name=f"{value.name}/bits")
    back = ir.node("Cast", bits.outputs, {"to": int(_FLOAT)}, name=f"{value.name}/rounded")
    _declare(bits.outputs[0], f"{value.name}_bits", _HALF, value)
    _declare(back.outputs[0], f"{value.name}_rounded", _FLOAT, value)
    ir.convenience.replace_all_uses_with(value, back.outputs[0], replace_graph_outputs=True)
    bits.replace_input_with(0, value)
    graph.insert_after(node, [bits, back])


def _retype(node: ir.Node) -> None:
    """Write float32 where an attribute says that a node makes float16."""
    if is_op(node, "Cast"):
        node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
    given = node.attributes.get("value")
    if given is not None and given.type == ir.AttributeType.TENSOR:
        array = given.as_tensor().numpy().astype(np.float32)
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array))
