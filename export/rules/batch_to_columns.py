"""Put the images of a batch side by side where a convolution looks along their rows alone.

Before, with steps ``x`` (L, P, B, C) and a kernel (K, 1)::

    y = Transpose(Conv(Transpose(x, [2, 3, 0, 1])), [2, 3, 0, 1])

After, as one image of P B columns::

    x' = Transpose(Reshape(x, [1, L, P B, C]), [0, 3, 1, 2])
    y  = Reshape(Transpose(Conv(x'), [0, 2, 3, 1]), [L', P, B, C'])

No column is read for another, so every number stays. OpenVINO knows the two moves that are left as the layout
with channels last, which its convolutions take as it is, and moves nothing.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..artifact import Refusal
from .graph import (
    add_constant,
    graph_of,
    input_of,
    integers,
    is_op,
    new_node,
    nodes_of,
    producer,
    redirect,
    remove_unused,
    sizes,
    sole_user,
)

_SWAP = [2, 3, 0, 1]


class BatchToColumns(ir.passes.InPlacePass):
    """Rewrite convolutions over steps that stand between two moves of the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at the moves around every convolution."""
        for conv in nodes_of(model, "Conv"):
            before, after = producer(input_of(conv, 0), "Transpose"), sole_user(conv.outputs[0])
            if before is None or after is None or not (_swaps(before) and _swaps(after)):
                continue
            reason = _obstacle(conv, before, after)
            if reason is not None:
                self.refusals += (Refusal(conv.name or "", reason),)
                continue
            _rewrite(conv, before, after)
            self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _swaps(node: ir.Node) -> bool:
    return is_op(node, "Transpose") and integers(node, "perm", ()) == _SWAP


def _obstacle(conv: ir.Node, before: ir.Node, after: ir.Node) -> str | None:
    kernel = sizes(input_of(conv, 1))
    if kernel is None or kernel[-1] != 1:
        return "its kernel reads other columns, or its size is not known"
    if integers(conv, "strides", (1, 1))[1] != 1 or any(integers(conv, "pads", (0,) * 4)[1::2]):
        return "it adds columns or leaves some out"
    shapes = sizes(before.inputs[0]), sizes(after.outputs[0])
    if any(shape is None or not all(isinstance(shape[i], int) for i in (0, 1, 3)) for shape in shapes):
        return "more than the batch size is free"
    return None


def _rewrite(conv: ir.Node, before: ir.Node, after: ir.Node) -> None:
    graph, name = graph_of(conv), conv.name or "conv"
    length, _, _, channels = sizes(before.inputs[0]) or []
    wide = add_constant(graph, f"{name}.wide", np.array([1, length, -1, channels], np.int64))
    apart = add_constant(graph, f"{name}.apart", _apart(after.outputs[0]))
    (image,) = new_node("Reshape", [before.inputs[0], wide], before=conv, name=f"{name}.columns")
    first, last = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
    (image,) = new_node("Transpose", [image], before=conv, name=f"{name}.image", attributes=first)
    conv.replace_input_with(0, image)
    conv.outputs[0].shape = None
    (rows,) = new_node("Transpose", conv.outputs, before=after, name=f"{name}.rows", attributes=last)
    (steps,) = new_node("Reshape", [rows, apart], before=after, name=f"{name}.steps")
    redirect(after.outputs[0], steps)
    remove_unused([after, before])


def _apart(steps: ir.Value) -> np.ndarray:
    return np.array([d if isinstance(d, int) else -1 for d in sizes(steps) or []], np.int64)
