"""Put the state of a Scan first in the sums and products of its body, where OpenVINO reads it right.

Before::

    Scan(h0, a, body(h, s): o = Add(Mul(s, h), t))

After::

    Scan(h0, a, body(h, s): o = Add(Mul(h, s), t))

With static shapes OpenVINO writes the answer of such an operator over the state when the state comes later,
and the next step reads the answer. Operators that are not commutative stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from ..artifact import Refusal
from .graph import integer, is_op

_COMMUTATIVE = ("Add", "Mul", "Max", "Min", "Sum", "Mean")
_OTHER = ("PRelu", "Mod")
"""Not commutative, and written over their inputs all the same."""
_VIEWS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators whose answer is the memory of their input."""


class StateFirst(ir.passes.InPlacePass):
    """Swap the operands of commutative operators in Scan bodies so that the state comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at every Scan, those inside branches and other loops too."""
        for scan in list(model.graph.all_nodes()):
            if is_op(scan, "Scan"):
                self._body(scan)
        return ir.passes.PassResult(model, self.changed > 0)

    def _body(self, scan: ir.Node) -> None:
        body = scan.attributes["body"].as_graph()
        states = set(body.inputs[: len(scan.inputs) - integer(scan, "num_scan_inputs", 0)])
        for node in body:
            late = _late_state(node, states)
            if late is None:
                continue
            if is_op(node, *_COMMUTATIVE):
                _move_first(node, late)
                self.changed += 1
            else:
                reason = f"{node.op_type} takes the state as a later input and is not commutative"
                self.refusals += (Refusal(node.name or "", reason),)


def _late_state(node: ir.Node, states: Collection[ir.Value]) -> int | None:
    """Give the index of the first operand that is the state; None when the first of all is, or none."""
    if not is_op(node, *_COMMUTATIVE, *_OTHER):
        return None
    found = (index for index, value in enumerate(node.inputs) if _origin(value) in states)
    return next(found, 0) or None


def _origin(value: ir.Value | None) -> ir.Value | None:
    """Follow a value through operators that only rename its memory."""
    node = None if value is None else value.producer()
    while node is not None and is_op(node, *_VIEWS):
        value = node.inputs[0]
        node = None if value is None else value.producer()
    return value


def _move_first(node: ir.Node, index: int) -> None:
    first, state = node.inputs[0], node.inputs[index]
    node.replace_input_with(0, state)
    node.replace_input_with(index, first)
