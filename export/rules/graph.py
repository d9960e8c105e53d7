"""Small verbs for reading and editing a graph, shared by the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ..artifact import Array


def constant(value: ir.Value | None) -> Array | None:
    """Give the array behind an initializer or a Constant node; None for everything a run can change."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def sole_user(value: ir.Value) -> ir.Node | None:
    """Give the one node that reads a value; None when several read it or the caller of the network does."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses)).node


def producer(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """Give the node that makes a value when it is one of these operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *operators) else None


def is_op(node: ir.Node, *operators: str) -> bool:
    """Say whether a node is one of these ONNX operators."""
    return node.domain == "" and node.op_type in operators


def nodes_of(model: ir.Model, *operators: str) -> list[ir.Node]:
    """List the nodes of the main graph that are one of these operators, in order."""
    return [node for node in model.graph if is_op(node, *operators)]


def still_there(node: ir.Node) -> bool:
    """Say whether a node has not been removed since it was listed."""
    return node.graph is not None


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Give an input; None when it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """Give an integer attribute."""
    return node.attributes.get_int(name, default)


def integers(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    """Give an attribute that is a list of integers."""
    return list(node.attributes.get_ints(name, default))


def add_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add an initializer under ``name``, or under the next free name after it."""
    free, number = name, 2
    while free in graph.initializers:
        free, number = f"{name}_{number}", number + 1
    # A broadcast or transposed view must not reach the file with its strides.
    tensor = ir.tensor(np.array(array, order="C"), name=free)
    value = ir.Value(
        name=free, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def set_constant(node: ir.Node, index: int, array: Array, name: str) -> None:
    """Give a node its own constant at one input, named after the constant that stood there, or ``name``."""
    old = input_of(node, index)
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, None)
    if old is not None and old.name is not None:
        if old.is_initializer():
            name = old.name
        if old.is_initializer() and not old.uses() and not old.is_graph_output():
            graph_of(node).initializers.pop(old.name)
    node.replace_input_with(index, add_constant(graph_of(node), name, array))


def graph_of(node: ir.Node) -> ir.Graph:
    """Give the graph that a node stands in."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return graph


def new_node(
    operator: str,
    inputs: Sequence[ir.Value | None],
    *,
    before: ir.Node,
    name: str,
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
    outputs: int = 1,
) -> tuple[ir.Value, ...]:
    """Insert a node and give its outputs, named after it."""
    converted = ir.convenience.convert_attributes(dict(attributes or {}))
    node = ir.Node("", operator, inputs, converted, num_outputs=outputs, name=name)
    for index, value in enumerate(node.outputs):
        value.name = name if index == 0 else f"{name}.{index}"
    graph_of(before).insert_before(before, node)
    return tuple(node.outputs)


def redirect(old: ir.Value, new: ir.Value) -> None:
    """Let everyone who read ``old`` read ``new``; an output of the network keeps its name, shape and type."""
    if old.is_graph_output():
        name = old.name
        old.name, new.name = f"{name}.before", name
    new.shape = new.shape if new.shape is not None else old.shape
    new.type = new.type if new.type is not None else old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def can_redirect(old: ir.Value, new: ir.Value) -> bool:
    """Say whether ``new`` may stand for ``old``: two outputs, or an input and an output, stay two values."""
    taken = new.is_graph_output() or new.is_graph_input() or new.is_initializer()
    return not (old.is_graph_output() and taken)


def remove_unused(nodes: Sequence[ir.Node]) -> None:
    """Remove those of the nodes, later ones first, that nobody reads."""
    for node in nodes:
        if still_there(node) and all(not v.uses() and not v.is_graph_output() for v in node.outputs):
            graph_of(node).remove(node, safe=True)


def sizes(value: ir.Value | None) -> list[int | str | None] | None:
    """Give the shape with free dimensions as names and unknown ones as None; None without a known rank."""
    if value is None or value.shape is None:
        return None
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def float_array(array: Array) -> Array:
    """Give the array in float64, in which every fold is computed before it is rounded once."""
    return array.astype(np.float64)
