"""A graph is lowered node by node, in order; what is known stays out of the program until it is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from ....errors import BuildError
from ....export.artifact import Array, Refusal
from ...reference import evaluate
from .call import Call, Held, Scope, Unsupported, fixed, shape_of
from .folded import Folded
from .weight import Weight

_NOT_FOLDED = frozenset({"QuantizeLinear", "DequantizeLinear", "If", "Loop", "Scan"})
"""Operators that are lowered even where all inputs are constants: weights in integers stay in integers."""


class Refused(Exception):
    """A graph that cannot be lowered, with the reasons."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        super().__init__("; ".join(f"{r.where}: {r.reason}" for r in refusals))
        self.refusals = refusals


def refusals(graph: ir.Graph, scope: Scope) -> tuple[Refusal, ...]:
    """List the first node of every operator that is not in the table, also in bodies."""
    found: dict[str, Refusal] = {}
    for node in graph.all_nodes():
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if node.domain or (node.op_type != "Constant" and node.op_type not in scope.functions):
            found.setdefault(kind, Refusal(label(node), f"the operator {kind} has no lowering"))
    return tuple(found.values())


def lower_nodes(graph: ir.Graph, scope: Scope) -> list[Held]:
    """Lower every node into the open function or block of coremltools, and give the outputs.

    Raises:
        Refused: If a node cannot be lowered.
    """
    for value in graph.initializers.values():
        if value not in scope.values:
            scope.values[value] = tensor_of(value)
    for node in graph:
        for value, held in zip(node.outputs, lower_node(node, scope), strict=False):
            scope.values[value] = held
    return [scope.values[output] for output in graph.outputs]


def lower_node(node: ir.Node, scope: Scope) -> Sequence[Held]:
    """Lower one node; what it makes is called after its outputs.

    Raises:
        Refused: If it cannot be lowered.
    """
    call = Call(node, scope)
    if node.op_type == "Constant":
        return (_constant(node),)
    arrays = [scope.values[value] for value in node.inputs if value is not None]
    if (
        node.op_type not in _NOT_FOLDED
        and all(isinstance(a, np.ndarray) for a in arrays)
        and len(node.outputs) == 1
    ):
        return (_folded(node, scope),)
    before = {id(held) for held in scope.values.values()}
    try:
        answer = scope.functions[node.op_type](call)
    except Refused:
        raise
    except Unsupported as error:
        raise Refused((Refusal(label(node), f"{node.op_type}: {error}"),)) from error
    except Exception as error:  # coremltools raises bare exceptions of many kinds
        reason = " ".join(str(error).split())[:300]
        raise Refused((Refusal(label(node), f"{node.op_type}: coremltools says: {reason}"),)) from error
    outputs = cast("tuple[Held, ...]", answer) if isinstance(answer, tuple) else (answer,)
    for value, held in zip(node.outputs, outputs, strict=False):
        _check(node, held)
        _call(held, value, known_before=id(held) in before)
    return outputs


def label(node: ir.Node) -> str:
    """Name a node for people."""
    return node.name or node.outputs[0].name or node.op_type


def tensor_of(value: ir.Value) -> Array:
    """Give the array of an initializer."""
    assert value.const_value is not None
    return value.const_value.numpy()


def _constant(node: ir.Node) -> Array:
    found = ir.convenience.get_const_tensor(node.outputs[0])
    if found is None:
        raise Refused((Refusal(label(node), "a constant that is no tensor"),))
    return found.numpy()


def _folded(node: ir.Node, scope: Scope) -> Array:
    """Compute a node whose inputs are all known."""
    names = [f"i{index}" for index in range(len(node.inputs))]
    feed = {name: scope.values[v] for name, v in zip(names, node.inputs, strict=True) if v is not None}
    inputs = {
        name: ir.val(name, ir.DataType.from_numpy(array.dtype), array.shape) for name, array in feed.items()
    }
    copy = ir.Node(
        "", node.op_type, [inputs.get(name) for name in names], list(node.attributes.values()), num_outputs=1
    )
    copy.outputs[0].name = "y"
    graph = ir.Graph(list(inputs.values()), copy.outputs, nodes=[copy], opset_imports={"": scope.opset})
    try:
        return evaluate(ir.Model(graph, ir_version=10))(feed)["y"]
    except BuildError as error:
        raise Refused((Refusal(label(node), f"{node.op_type} of constants: {error}"),)) from error


def is_variable(held: Held) -> bool:
    """Say whether a value is a tensor of the program."""
    return not isinstance(held, np.ndarray | Weight | Folded | NoneType) and held.op is not None


def _check(node: ir.Node, held: Held) -> None:
    """Refuse tensors without elements, which Core ML does not have."""
    if held is not None and any(fixed(dim) and dim == 0 for dim in shape_of(held)):
        raise Refused((Refusal(label(node), f"{node.op_type}: its answer has no elements"),))


def _call(held: Any, value: ir.Value, *, known_before: bool) -> None:
    """Call a new variable after the value it is, so that it can be traced."""
    if known_before or value.name is None or not is_variable(held) or held.op.op_type == "const":
        return
    held.name = safe(value.name)
    if len(held.op.outputs) == 1:
        held.op.name = held.name


def safe(name: str) -> str:
    """Give a name of letters, digits and underscores, as MIL wants them."""
    clean = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{clean}" if not clean or clean[0].isdigit() else clean
