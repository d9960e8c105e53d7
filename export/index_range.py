"""Which integers an input may take, read off what the graph does with them.

An integer that picks a row of a table, or becomes a one-hot vector, has an upper bound that the file does
not write at the input. Without it random inputs would be the same few rows over and over::

    Gather(table (V, D), Cast(ids))                           ids below V
    OneHot(ids, depth = V)                                    ids below V
    Equal(Expand(Unsqueeze(ids)), [0, 1, ..., V - 1])         ids below V
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from .artifact import Array
from .rules.graph import constant, input_of, integer, is_op, sizes

_MOVES = (
    *("Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"),
    *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators whose answer holds the values of their first input and no others."""
_DEFAULT_AXIS = {"Gather": 0, "GatherElements": 0}


def upper_bound(value: ir.Value) -> int | None:
    """Give the exclusive upper bound of the values of an integer input; None where nothing says it.

    Args:
        value: An input of the graph.

    Returns:
        The smallest bound of all places that the values reach unchanged.
    """
    if value.dtype is None or not value.dtype.is_integer():
        return None
    bounds = [bound for reached in _moved(value) for bound in _bounds(reached) if bound > 0]
    # What the type cannot hold needs no bound.
    return min((*bounds, np.iinfo(value.dtype.numpy()).max + 1)) if bounds else None


def _moved(value: ir.Value) -> Iterator[ir.Value]:
    """Walk from a value to every value that holds the same numbers."""
    pending, seen = [value], {value}
    while pending:
        reached = pending.pop()
        yield reached
        for node, index in reached.uses():
            if index == 0 and is_op(node, *_MOVES):
                fresh = [output for output in node.outputs if output not in seen]
                pending += fresh
                seen.update(fresh)


def _bounds(value: ir.Value) -> Iterator[int]:
    for node, index in value.uses():
        if index == 1 and node.op_type in _DEFAULT_AXIS and is_op(node, *_DEFAULT_AXIS):
            yield from _length(node.inputs[0], integer(node, "axis", _DEFAULT_AXIS[node.op_type]))
        elif index == 0 and is_op(node, "OneHot"):
            depth = constant(input_of(node, 1))
            yield from () if depth is None else (int(depth.reshape(-1)[0]),)
        elif is_op(node, "Equal"):
            yield from _classes(_behind(node.inputs[1 - index]))


def _length(table: ir.Value | None, axis: int) -> Iterator[int]:
    array = _behind(table) if axis == 0 else None
    shape = sizes(table) if array is None else list(array.shape)
    if shape and -len(shape) <= axis < len(shape) and isinstance(shape[axis], int):
        yield int(shape[axis] or 0)


def _classes(array: Array | None) -> Iterator[int]:
    """Count the classes of a comparison with 0, 1, 2 and so on; another constant bounds nothing."""
    if array is not None and array.size > 1 and np.array_equal(array.reshape(-1), np.arange(array.size)):
        yield array.size


def _behind(value: ir.Value | None) -> Array | None:
    """Give the constant that a value repeats."""
    while value is not None and constant(value) is None:
        node = value.producer()
        if node is None or not is_op(node, "Cast", "Expand", "Identity"):
            return None
        value = node.inputs[0]
    return constant(value)
