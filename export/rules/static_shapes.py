"""Compute shapes ahead of time where only the batch size is unknown.

Before::

    s = Shape(x)                                     x: (batch, 4, 196, 8)
    y = Reshape(x, Concat(Slice(s, 0, 2), Slice(s, 3, 4), Slice(s, 2, 3)))
    z = Pad(x, Cast(Ceil(Div(s[2] - 1, 2)) ...))     padding computed from the image size

After::

    y = Reshape(x, [-1, 4, 8, 196])
    z = Pad(x, [0, 0, 1, 1, ...])

Numbers are followed through shape arithmetic; a free dimension stays a name until something computes with it.
A Reshape target with one free dimension becomes -1, anything else must be all numbers to be replaced.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..artifact import Refusal
from .graph import constant, input_of, integer, set_constant, sizes

Elements = np.ndarray  # any shape, of objects: numbers, names of free dimensions, or None
Compute = Callable[[ir.Node, list[Elements]], Elements]

_SMALL = 64
"""Shapes and paddings are never longer."""

_OPERANDS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Pad": (1,),
    "Slice": (1, 2, 3, 4),
    "Resize": (2, 3),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Split": (1,),
    "Range": (0, 1, 2),
    "TopK": (1,),
    "Gather": (1,),
}
"""Which inputs of which operators are shapes, counts or indices."""


class StaticShapes(ir.passes.InPlacePass):
    """Replace computed shapes by constants."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Follow numbers through the graph once, and replace every operand that became known."""
        known: dict[ir.Value, Elements] = {}
        for node in model.graph:
            for index in _OPERANDS.get(node.op_type, ()) if node.domain == "" else ():
                self._replace(node, index, known)
            _follow(node, known)
        return ir.passes.PassResult(model, self.changed > 0)

    def _replace(self, node: ir.Node, index: int, known: dict[ir.Value, Elements]) -> None:
        value = input_of(node, index)
        if value is None or constant(value) is not None or value not in known or value.is_graph_input():
            return
        elements = known[value]
        free = [e for e in elements.flat if not isinstance(e, int | float)]
        # A -1 of the graph's own already stands for what is left over.
        left = len(free) + sum(1 for e in elements.flat if e == -1)
        if free and (node.op_type != "Reshape" or left > 1 or integer(node, "allowzero", 0)):
            reason = f"its shape has {left} parts that depend on free dimensions"
            self.refusals += (Refusal(node.name or "", reason),)
            return
        fixed = np.array([-1 if e in free else e for e in elements.flat]).reshape(elements.shape)
        kind = value.dtype.numpy() if value.dtype is not None else np.dtype(np.int64)
        set_constant(node, index, fixed.astype(kind), f"{node.name}.input{index}")
        if node.op_type == "Reshape" and all(e != 0 and e != -1 for e in elements.flat):
            # Shape inference cannot know that the -1 is the same free dimension as before.
            node.outputs[0].shape = ir.Shape([e if isinstance(e, int | str) else None for e in elements.flat])
        self.changed += 1


def _follow(node: ir.Node, known: dict[ir.Value, Elements]) -> None:
    """Work out the elements of what a node gives, where they are few and known."""
    if node.domain != "" or len(node.outputs) != 1:
        return
    output = node.outputs[0]
    if node.op_type == "Shape":
        dims = sizes(node.inputs[0])
        if dims is not None:
            end = integer(node, "end", len(dims))
            known[output] = _objects(dims, (len(dims),))[integer(node, "start", 0) : end]
        return
    compute = _ARITHMETIC.get(node.op_type)
    operands = [_elements(value, known) for value in node.inputs]
    if compute is None or any(o is None for o in operands):
        return
    try:
        result = compute(node, [o for o in operands if o is not None])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return
    if result.size <= _SMALL:
        known[output] = result


def _elements(value: ir.Value | None, known: dict[ir.Value, Elements]) -> Elements | None:
    if value is None or value in known:
        return known.get(value) if value is not None else None
    array = constant(value)
    if array is None or array.size > _SMALL or array.dtype.kind not in "iuf":
        return None
    return _objects(array.tolist(), array.shape)


def _objects(content: object, shape: tuple[int, ...]) -> Elements:
    made = np.empty(shape, dtype=object)
    made[...] = np.array(content, dtype=object).reshape(shape)
    return made


def _mapped(function: Callable[..., object]) -> Compute:
    """Lift a function of numbers to arrays; whatever meets a name or an unknown gives an unknown."""

    def one(*parts: object) -> object:
        return function(*parts) if all(isinstance(p, int | float) for p in parts) else None

    def many(_node: ir.Node, operands: list[Elements]) -> Elements:
        return np.asarray(np.frompyfunc(one, len(operands), 1)(*operands), dtype=object)

    return many


def _divide(a: float, b: float) -> float:
    # Integers are divided as ONNX does it, towards zero.
    return int(a / b) if isinstance(a, int) and isinstance(b, int) else a / b


def _cast(node: ir.Node, operands: list[Elements]) -> Elements:
    kind = ir.DataType(integer(node, "to", 0)).numpy().kind
    convert = {"i": int, "u": int, "f": float}.get(kind)
    if convert is None:
        raise ValueError(kind)
    # A free dimension stays one when it is cast.
    return np.asarray(
        np.frompyfunc(lambda e: convert(e) if isinstance(e, int | float) else e, 1, 1)(operands[0]),
        dtype=object,
    )


def _gather(node: ir.Node, operands: list[Elements]) -> Elements:
    data, indices = operands
    if integer(node, "axis", 0) != 0 or data.ndim != 1:
        raise ValueError(node.name)
    return _objects([data[int(i)] for i in indices.flat], indices.shape)


def _slice(_node: ir.Node, operands: list[Elements]) -> Elements:
    data, start, end = operands[0], int(operands[1].item()), int(operands[2].item())
    step = int(operands[4].item()) if len(operands) > 4 else 1
    if data.ndim != 1:
        raise ValueError(data.ndim)
    return data[start:end:step]


def _concat(_node: ir.Node, operands: list[Elements]) -> Elements:
    return np.concatenate([np.atleast_1d(o) for o in operands])


def _squeeze(_node: ir.Node, operands: list[Elements]) -> Elements:
    return operands[0].reshape(()) if operands[0].size == 1 else operands[0]


def _unsqueeze(_node: ir.Node, operands: list[Elements]) -> Elements:
    if operands[0].ndim:
        raise ValueError(operands[0].ndim)
    return operands[0].reshape((1,))


def _reshape(_node: ir.Node, operands: list[Elements]) -> Elements:
    return operands[0].reshape([int(e) for e in operands[1].flat])


_ARITHMETIC: dict[str, Compute] = {
    "Add": _mapped(operator.add),
    "Sub": _mapped(operator.sub),
    "Mul": _mapped(operator.mul),
    "Div": _mapped(_divide),
    "Max": _mapped(max),
    "Min": _mapped(min),
    "Neg": _mapped(operator.neg),
    # Both give floats, as in ONNX.
    "Ceil": _mapped(np.ceil),
    "Floor": _mapped(np.floor),
    "Cast": _cast,
    "Identity": lambda _node, operands: operands[0],
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
}
