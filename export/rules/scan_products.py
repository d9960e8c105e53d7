"""Sum over the states of a Scan by a product of matrices.

Before, in the body, with c (..., N, 1) a slice of the sequence and h (..., N, I)::

    y = ReduceSum(Mul(h, c), axis -2)                         (..., I)

After, with the whole sequence of c transposed ahead of the Scan, and the axis dropped behind it::

    y = MatMul(c, h)                                          (..., 1, I)

The product reads the state once and writes no intermediate of its size. It is no part of the form that is
exported, because torch cannot export a product in a body whose batch size is free.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..artifact import Refusal
from .graph import (
    add_constant,
    constant,
    graph_of,
    input_of,
    integer,
    is_op,
    new_node,
    nodes_of,
    producer,
    sizes,
)


class ScanProducts(ir.passes.InPlacePass):
    """Replace sums over the last axis but one in the bodies of the main graph's Scans."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at every answer of every Scan."""
        for scan in nodes_of(model, "Scan"):
            body = scan.attributes["body"].as_graph()
            states = len(scan.inputs) - integer(scan, "num_scan_inputs", 0)
            for index in range(states, len(body.outputs)):
                total = producer(body.outputs[index], "ReduceSum")
                if total is None or not is_op(_product(total), "Mul"):
                    continue
                reason = self._replace(scan, total, index, states)
                if reason is not None:
                    self.refusals += (Refusal(scan.name or "", reason),)
        return ir.passes.PassResult(model, self.changed > 0)

    def _replace(self, scan: ir.Node, total: ir.Node, index: int, states: int) -> str | None:
        """Rewrite one answer, or say why it stays."""
        body = scan.attributes["body"].as_graph()
        slices = [v for v in _product(total).inputs if v in tuple(body.inputs)[states:]]
        if len(slices) != 1:
            return "its sum is not of a product of a state and a slice"
        (leave,) = slices
        (state,) = (v for v in _product(total).inputs if v is not leave)
        reason = _obstacle(scan, total, leave, state)
        if reason is None:
            _transpose_ahead(scan, leave)
            _multiply(total, leave, state, index)
            _squeeze_behind(scan, index)
            self.changed += 1
        return reason


def _product(total: ir.Node) -> ir.Node:
    made = total.inputs[0].producer() if total.inputs[0] is not None else None
    return total if made is None else made


def _obstacle(scan: ir.Node, total: ir.Node, leave: ir.Value, state: ir.Value | None) -> str | None:
    thin, full = sizes(leave), sizes(state)
    if thin is None or full is None or len(thin) != len(full) or len(thin) < 2:
        return "the shapes of what it sums are not known"
    if thin[-1] != 1 or thin[-2] != full[-2] or not isinstance(thin[-2], int):
        return "its slice is not one number for each state"
    axes = constant(input_of(total, 1))
    last_but_one = axes is not None and [int(a) % len(full) for a in axes.flat] == [len(full) - 2]
    if not last_but_one or integer(total, "keepdims", 1):
        return "its sum is over other axes than the last but one"
    made, answer = _product(total).outputs[0], total.outputs[0]
    if len(leave.uses()) != 1 or len(made.uses()) != 1 or answer.uses():
        return "what it sums or answers is read elsewhere too"
    if any(scan.attributes.get(name) for name in ("scan_input_axes", "scan_output_axes")):
        return "it scans along stated axes"
    return None


def _swapped(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape([*shape[:-2], shape[-1], shape[-2]])


def _transpose_ahead(scan: ir.Node, leave: ir.Value) -> None:
    """Turn (L, ..., N, 1) into (L, ..., 1, N) before the Scan slices it."""
    body = scan.attributes["body"].as_graph()
    place = list(body.inputs).index(leave)
    sequence = scan.inputs[place]
    rank = len(leave.shape or ()) + 1
    order = [*range(rank - 2), rank - 1, rank - 2]
    name = f"{scan.name}.transposed{place}"
    (turned,) = new_node("Transpose", [sequence], before=scan, name=name, attributes={"perm": order})
    turned.type = None if sequence is None else sequence.type
    turned.shape = None if sequence is None else _swapped(sequence.shape)
    scan.replace_input_with(place, turned)
    leave.shape = _swapped(leave.shape)


def _multiply(total: ir.Node, leave: ir.Value, state: ir.Value | None, index: int) -> None:
    body, product = graph_of(total), _product(total)
    name = f"{total.name}.product"
    (answer,) = new_node("MatMul", [leave, state], before=total, name=name)
    answer.type = total.outputs[0].type
    body.outputs[index] = answer
    body.remove([total, product], safe=True)


def _squeeze_behind(scan: ir.Node, index: int) -> None:
    """Drop the axis of length one from the stacked answers."""
    graph, stacked = graph_of(scan), scan.outputs[index]
    shape, readers = stacked.shape, list(stacked.uses())
    axis = add_constant(graph, f"{scan.name}.axis", np.array([-2]))
    name = f"{scan.name}.squeezed{index}"
    squeeze = ir.Node("", "Squeeze", [stacked, axis], num_outputs=1, name=name)
    graph.insert_after(scan, squeeze)
    (flat,) = squeeze.outputs
    flat.name, flat.type, flat.shape = name, stacked.type, shape
    stacked.shape = None if shape is None else ir.Shape([*shape[:-1], 1, shape[-1]])
    for reader in readers:
        reader.node.replace_input_with(reader.idx, flat)
    if stacked.is_graph_output():
        graph.outputs[list(graph.outputs).index(stacked)] = flat
        flat.name, stacked.name = stacked.name, name
