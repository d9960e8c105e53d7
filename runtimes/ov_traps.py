"""Graphs that OpenVINO (seen in 2026.4) answers wrongly without a word; each is found before it can.

* ``DFT`` of opset 20 and later: the axis became an input, and OpenVINO ignores it and takes axis 1.
* ``DFT`` with ``onesided``: the answer gains a dimension.
* ``Scan`` of static shapes: an element-wise operator of the body that takes the state as a later input
  writes its result over memory that the next step still reads. With the state first, as in
  ``Mul(state, slice)``, or with a free dimension, the answer is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx_ir as ir

_IN_PLACE = frozenset(
    {"Add", "Multiply", "Maximum", "Minimum", "PRelu", "SquaredDifference", "Mod", "FloorMod"}
)
"""Element-wise operators that may write over an input; Subtract, Divide and Power were seen to be safe."""

_VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output is the memory of their input."""


def dft_traps(model: ir.Model) -> Iterator[str]:
    """Find the DFT nodes that OpenVINO computes along another axis, or in another shape.

    Args:
        model: The ONNX graph.

    Yields:
        One clause for each: the node, why, and what to do.
    """
    opset = model.opset_imports.get("", 0)
    for node in model.graph.all_nodes():
        if node.op_type != "DFT" or node.domain:
            continue
        onesided = node.attributes.get("onesided")
        if onesided is not None and onesided.as_int():
            yield f"DFT {node.name!r} with onesided, which gains a dimension; write it as matrix products"
        elif opset >= 20 and _axis(node) != 1:
            yield f"DFT {node.name!r} over another axis than 1, which is ignored; write it as matrix products"


def scan_traps(model: Any) -> Iterator[str]:
    """Find the loop bodies that write over what they still read.

    Args:
        model: An ``openvino.Model``, whose shapes are inferred.

    Yields:
        One clause for each operator: its name, why, and what to do.
    """
    for op in model.get_ops():
        kind: str = op.get_type_name()
        if kind == "TensorIterator":
            yield from _body_traps(op)
        for body in _bodies(op, kind):
            yield from scan_traps(body)


def _axis(node: ir.Node) -> int | None:
    """Give the axis of a DFT of opset 20 and later, counted from the front; None when it is not known."""
    data, given = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if given is None else ir.convenience.get_const_tensor(given)
    if given is not None and tensor is None:
        return None
    axis = -2 if tensor is None else int(tensor.numpy().item())
    if axis >= 0:
        return axis
    shape = None if data is None else data.shape
    return None if shape is None else axis + len(shape)


def _bodies(op: Any, kind: str) -> Iterable[Any]:
    if kind == "If":
        return (op.get_function(0), op.get_function(1))
    return (op.get_function(),) if kind in ("TensorIterator", "Loop") else ()


def _body_traps(scan: Any) -> Iterator[str]:
    body = scan.get_body()
    parameters = body.get_parameters()
    states = {
        parameters[entry.body_parameter_index].get_friendly_name()
        for entry in scan.get_input_descriptions()
        if type(entry).__name__ == "MergedInputDescription"
    }
    for op in body.get_ops():
        if op.get_type_name() not in _IN_PLACE or op.get_output_partial_shape(0).is_dynamic:
            continue
        first, *later = (_origin(value) for value in op.input_values())
        if first.get_type_name() == "Constant" or first.get_friendly_name() in states:
            continue
        if any(value.get_friendly_name() in states for value in later):
            where = f"{op.get_type_name()} {op.get_friendly_name()!r} in Scan {scan.get_friendly_name()!r}"
            yield (f"{where} with the state as a later input, which it overwrites; put the state first")


def _origin(value: Any) -> Any:
    """Follow a value through operators that only rename its memory."""
    node = value.get_node()
    while node.get_type_name() in _VIEWS:
        node = node.input_value(0).get_node()
    return node
