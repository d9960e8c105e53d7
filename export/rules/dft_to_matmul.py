"""Write a discrete Fourier transform as one product with a real matrix.

Before::

    y = DFT(x, axis=a)                x (..., N, ..., C), C = 1 real or 2 real and imaginary part

After::

    y = Reshape(MatMul(Reshape(x, (..., N C)), W), (..., M, 2))

``W`` holds, for input (n, c) and output (m, d), the part d of ``i**c exp(-2 pi i m n / N)``; an inverse
transform has the other sign and the factor 1 / N. Another axis than the last but one is brought there and
back. TensorRT and Core ML have no operator for it, and OpenVINO computes some forms of it wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    add_constant,
    constant,
    graph_of,
    input_of,
    integer,
    new_node,
    nodes_of,
    redirect,
    remove_unused,
    sizes,
)

_AXIS_IS_INPUT = 20
"""Opset from which the axis is an input."""


class DftToMatMul(ir.passes.InPlacePass):
    """Replace DFT by MatMul with a constant matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite what can be; the others keep their operator and get a reason."""
        opset = model.opset_imports.get("", 0)
        for node in nodes_of(model, "DFT"):
            axis = _axis(node, opset)
            reason = (
                "its axis is not known ahead of time" if axis is None else next(_obstacles(node, axis), "")
            )
            if axis is None or reason:
                self.refusals += (Refusal(node.name or "", reason),)
                continue
            redirect(node.outputs[0], _product(node, axis))
            remove_unused([node])
            self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _axis(node: ir.Node, opset: int) -> int | None:
    """Give the axis counted from the front."""
    shape = sizes(node.inputs[0])
    if shape is None:
        return None
    given = constant(input_of(node, 2))
    if opset < _AXIS_IS_INPUT:
        axis = integer(node, "axis", 1)
    elif input_of(node, 2) is None:
        axis = -2
    elif given is None:
        return None
    else:
        axis = int(given.item())
    axis = axis + len(shape) if axis < 0 else axis
    return axis if 0 <= axis < len(shape) - 1 else None


def _obstacles(node: ir.Node, axis: int | None) -> Iterator[str]:
    if axis is None:
        yield "its axis is not known ahead of time"
        return
    value, shape = node.inputs[0], sizes(node.inputs[0]) or []
    if value is None or value.dtype != ir.DataType.FLOAT:
        yield "it is not in float32"
    if not isinstance(shape[axis], int):
        yield "its length is not known ahead of time"
    if shape[-1] not in (1, 2):
        yield "its input is not known to be real or complex"
    length = constant(input_of(node, 1))
    if input_of(node, 1) is not None and (length is None or int(length.item()) != shape[axis]):
        yield "it cuts or pads its input"
    if integer(node, "inverse", 0) and integer(node, "onesided", 0):
        yield "it is the inverse of one side"


def _product(node: ir.Node, axis: int) -> ir.Value:
    name, shape = node.name or "dft", sizes(node.inputs[0]) or []
    length, parts, rank = shape[axis], shape[-1], len(shape)
    assert isinstance(length, int)
    assert isinstance(parts, int)
    matrix = _matrix(
        length, parts, inverse=bool(integer(node, "inverse", 0)), onesided=bool(integer(node, "onesided", 0))
    )
    order = [*(i for i in range(rank - 1) if i != axis), axis, rank - 1]
    rows = _reshape(node, _transposed(node, node.inputs[0], order, "last"), [0] * (rank - 2) + [-1], "rows")
    weights = add_constant(graph_of(node), f"{name}.matrix", matrix)
    (made,) = new_node("MatMul", [rows, weights], before=node, name=f"{name}.product")
    pairs = _reshape(node, made, [0] * (rank - 2) + [matrix.shape[1] // 2, 2], "pairs")
    return _transposed(node, pairs, list(np.argsort(order)), "back")


def _matrix(length: int, parts: int, *, inverse: bool, onesided: bool) -> Array:
    """Give (length parts, outputs 2), computed in float64 and rounded once."""
    outputs = length // 2 + 1 if onesided else length
    # Only the remainder counts; taken before the angle, it keeps large products exact.
    turns = np.outer(np.arange(length), np.arange(outputs)) % length / length
    waves = np.exp((2j if inverse else -2j) * np.pi * turns) / (length if inverse else 1)
    rows = np.stack([waves * 1j**part for part in range(parts)], axis=1)
    return np.stack([rows.real, rows.imag], axis=-1).reshape(length * parts, outputs * 2).astype(np.float32)


def _transposed(node: ir.Node, value: ir.Value | None, order: Sequence[int], part: str) -> ir.Value:
    assert value is not None
    if list(order) == sorted(order):
        return value
    facts = {"perm": [int(axis) for axis in order]}
    (made,) = new_node(
        "Transpose", [value], before=node, name=f"{node.name or 'dft'}.{part}", attributes=facts
    )
    return made


def _reshape(node: ir.Node, value: ir.Value, target: Sequence[int], part: str) -> ir.Value:
    name = f"{node.name or 'dft'}.{part}"
    shape = add_constant(graph_of(node), f"{name}.shape", np.array(target, np.int64))
    (made,) = new_node("Reshape", [value, shape], before=node, name=name)
    return made
