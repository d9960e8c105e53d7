"""Writing float16 into a graph, node by node, with a Cast wherever a float16 node meets a float32 one.

Before::

    y = Conv(x, w)            x, w, y float32

After::

    x16 = Cast<to = FLOAT16>(x)
    y16 = Conv(x16, w16)
    y = Cast<to = FLOAT>(y16)

Constants are rounded once; inputs and outputs of the graph keep their types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
import onnx_ir as ir

from .rules.graph import add_constant, constant, remove_unused

FULL = {
    "If": "its branches stay as they are",
    "Loop": "a recurrence would round its state in every step",
    "Scan": "a recurrence would round its state in every step",
    "CumSum": "a running sum would round in every step",
}
"""Operators that stay in float32, and why."""

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_MADE = frozenset({"Cast", "CastLike", "Constant", "ConstantOfShape"})
"""Operators whose answer's type is an attribute that `halve` can write."""


def why_full(node: ir.Node, opset: int) -> str:
    """Say why a node with float32 tensors must stay in float32, or ``""``.

    Args:
        node: Of the main graph.
        opset: Version of the ONNX operators in the graph.
    """
    if not touches_floats(node):
        return ""
    if node.op_type in FULL:
        return FULL[node.op_type]
    schema = _schema(node, opset)
    if schema is None:
        return f"{node.op_type} is not an ONNX operator"
    if not all(_takes_half(schema, v, schema.outputs, i) for i, v in enumerate(node.outputs)):
        return f"ONNX defines {node.op_type} without float16"
    untyped = not any(v is not None and v.dtype == _FLOAT for v in node.inputs)
    if untyped and node.op_type not in _MADE:
        return f"{node.op_type} makes float32 of nothing"
    return ""


def touches_floats(node: ir.Node) -> bool:
    """Say whether a node reads or makes float32."""
    return any(v is not None and v.dtype == _FLOAT for v in (*node.inputs, *node.outputs))


def halve(model: ir.Model, keep: Callable[[ir.Node], bool]) -> int:
    """Write float16 into every node that has float32 tensors and is not kept.

    Args:
        model: Changed in place; every tensor's type is known.
        keep: Says which nodes stay in float32.

    Returns:
        How many nodes are in float16 now.
    """
    writer = _Writer(model)
    for node in list(model.graph):
        if node.op_type in FULL or keep(node) or not writer.concerns(node):
            writer.keep(node)
        else:
            writer.halve(node)
    writer.finish()
    return writer.count


class _Writer:
    """Knows every value in both precisions, and makes the one that is asked for when it is missing."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opset = model.opset_imports.get("", 0)
        self.count = 0
        self._halves: dict[ir.Value, ir.Value] = {}
        self._fulls: dict[ir.Value, ir.Value] = {}
        self._turned: set[ir.Value] = set()

    def concerns(self, node: ir.Node) -> bool:
        """Say whether a node computes with float32; a constant is rounded where it is read."""
        values = (v for v in (*node.inputs, *node.outputs) if v is not None)
        return node.op_type != "Constant" and any(self._is_float(v) for v in values)

    def halve(self, node: ir.Node) -> None:
        """Let a node read and write float16."""
        schema = _schema(node, self.opset)
        assert schema is not None, "why_full names what has no schema"
        for index, value in enumerate(node.inputs):
            if value is None or not self._is_float(value):
                continue
            half = _takes_half(schema, value, schema.inputs, index)
            node.replace_input_with(index, self._half(value) if half else self._full(value))
        _retype(node)
        for value in node.outputs:
            if value.dtype == _FLOAT:
                value.type = ir.TensorType(_HALF)
                self._turned.add(value)
        self.count += 1

    def keep(self, node: ir.Node) -> None:
        """Let a node, and what its inner graphs capture, go on reading float32."""
        for inner, index in [*((node, i) for i in range(len(node.inputs))), *_captures(node, self._turned)]:
            value = inner.inputs[index]
            if value in self._turned:
                inner.replace_input_with(index, self._full(value))

    def finish(self) -> None:
        """Give the graph its float32 outputs back, under their names, and drop constants nobody reads."""
        for index, output in enumerate(self.graph.outputs):
            if output not in self._turned:
                continue
            name = output.name
            output.name = f"{name}_fp16"
            full = self._cast(output, _FLOAT, after=output.producer())
            full.name, full.shape = name, output.shape
            self.graph.outputs[index] = full
        remove_unused([node for node in self.graph if node.op_type == "Constant"])
        unread = [v for v in self.graph.initializers.values() if not v.uses() and not v.is_graph_output()]
        for value in unread:
            del self.graph.initializers[value.name or ""]

    def _is_float(self, value: ir.Value) -> bool:
        return value.dtype == _FLOAT or value in self._turned

    def _half(self, value: ir.Value) -> ir.Value:
        if value in self._turned:
            return value
        if value not in self._halves:
            array = constant(value)
            self._halves[value] = (
                self._cast(value, _HALF, after=value.producer())
                if array is None
                else add_constant(self.graph, f"{value.name}_fp16", array.astype(np.float16))
            )
        return self._halves[value]

    def _full(self, value: ir.Value) -> ir.Value:
        if value not in self._turned:
            return value
        if value not in self._fulls:
            self._fulls[value] = self._cast(value, _FLOAT, after=value.producer())
        return self._fulls[value]

    def _cast(self, value: ir.Value, to: ir.DataType, *, after: ir.Node | None) -> ir.Value:
        suffix = "fp16" if to == _HALF else "fp32"
        name = f"{value.name}_{suffix}"
        cast = ir.node("Cast", [value], {"to": int(to)}, name=f"{name}/Cast")
        made = cast.outputs[0]
        made.name, made.type, made.shape = name, ir.TensorType(to), value.shape
        if after is None:
            self.graph.insert_before(self.graph.node(0), cast)
        else:
            self.graph.insert_after(after, cast)
        return made


def _captures(node: ir.Node, turned: set[ir.Value]) -> list[tuple[ir.Node, int]]:
    """List the places inside a node's own graphs that read one of these values."""
    graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    inner = [n for graph in graphs for n in graph.all_nodes()]
    return [(n, i) for n in inner for i, value in enumerate(n.inputs) if value in turned]


def _retype(node: ir.Node) -> None:
    """Write float16 where an attribute says which type a node makes."""
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) == _FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", int(_HALF))
    if node.op_type == "ConstantOfShape":
        given = node.attributes.get("value")
        array = given.as_tensor().numpy() if given is not None else np.zeros(1, np.float32)
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array.astype(np.float16)))


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _takes_half(
    schema: onnx.defs.OpSchema,
    value: ir.Value | None,
    parameters: Iterable[onnx.defs.OpSchema.FormalParameter],
    index: int,
) -> bool:
    """Say whether ONNX allows float16 at one place of an operator; what is not float32 is not asked."""
    if value is None or value.dtype not in (_FLOAT, _HALF):
        return True
    declared = list(parameters)
    place = declared[min(index, len(declared) - 1)]  # the last one may stand for any number
    return "tensor(float16)" in place.types
