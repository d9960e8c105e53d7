"""Restore constant 32-bit integers ahead of time.

Before::

    y = Gemm(x, w, DequantizeLinear(b, scale))        b constant int32

After::

    y = Gemm(x, w, b * scale)                         a constant in float32

Quantized graphs keep a bias as int32 for engines that add it to integer sums; TensorRT takes it in float.
The product is the one that DequantizeLinear forms, so nothing is rounded differently.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    add_constant,
    constant,
    graph_of,
    input_of,
    integer,
    nodes_of,
    redirect,
    remove_unused,
)


class IntegersToFloat(ir.passes.InPlacePass):
    """Replace DequantizeLinear of constant int32 by the constant it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold what is constant; the others keep their operator and get a reason."""
        for node in nodes_of(model, "DequantizeLinear"):
            held = node.inputs[0]
            if held is None or held.dtype != ir.DataType.INT32:
                continue
            restored = _restored(node)
            if restored is None:
                reason = "its 32-bit integers, their scale or their zero are not constant"
                self.refusals += (Refusal(node.name or "", reason),)
                continue
            name = f"{held.name}_float"
            redirect(node.outputs[0], add_constant(graph_of(node), name, restored))
            remove_unused([node])
            self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _restored(node: ir.Node) -> Array | None:
    integers, scale = constant(node.inputs[0]), constant(node.inputs[1])
    zero = constant(input_of(node, 2))
    if integers is None or scale is None or (input_of(node, 2) is not None and zero is None):
        return None
    if node.outputs[0].is_graph_output() or integer(node, "block_size", 0):
        return None
    if scale.ndim == 1:
        axis = integer(node, "axis", 1)
        wide = [1] * integers.ndim
        wide[axis] = -1
        scale, zero = scale.reshape(wide), None if zero is None else zero.reshape(wide)
    moved = integers if zero is None else integers.astype(np.int64) - zero
    return moved.astype(scale.dtype) * scale
