"""Write a mean over all pixels of a map as global average pooling, for which engines have an integer kernel.

Before::

    y = ReduceMean(x, [2, 3], keepdims=1)      x: (B, C, H, W), y: (B, C, 1, 1)
    z = ReduceMean(x, [2, 3], keepdims=0)      z: (B, C)

After::

    y = GlobalAveragePool(x)
    z = Flatten(GlobalAveragePool(x), axis=1)
"""

from __future__ import annotations

import onnx_ir as ir

from ..artifact import Refusal
from .graph import constant, input_of, integer, integers, new_node, nodes_of, redirect, remove_unused, sizes

_SPATIAL = [2, 3]


class MeanToPool(ir.passes.InPlacePass):
    """Turn means over height and width into GlobalAveragePool."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at every mean; those over other axes than height and width are not meant."""
        for node in nodes_of(model, "ReduceMean"):
            reason = _rewrite(node)
            if reason:
                self.refusals += (Refusal(node.name or "", reason),)
            elif reason == "":
                self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _rewrite(mean: ir.Node) -> str | None:
    """Rewrite one mean; None when it is none over a map."""
    x = mean.inputs[0]
    if x is None or len(sizes(x) or ()) != 4:
        return None
    axes = _axes(mean)
    if axes is None:
        return "its axes are not known ahead of time"
    if sorted(axis % 4 for axis in axes) != _SPATIAL:
        return None
    if x.dtype != ir.DataType.FLOAT:
        return f"its map is {x.dtype}, and pooling is only certain to exist in FLOAT"
    name = f"{mean.name}.pool"
    pooled = new_node("GlobalAveragePool", [x], before=mean, name=name)[0]
    if not integer(mean, "keepdims", 1):
        pooled = new_node("Flatten", [pooled], before=mean, name=f"{name}.flat", attributes={"axis": 1})[0]
    redirect(mean.outputs[0], pooled)
    remove_unused([mean])
    return ""


def _axes(mean: ir.Node) -> list[int] | None:
    """Give the axes, an attribute up to opset 17 and an input since; all of them when none are stated."""
    given = input_of(mean, 1)
    if given is None:
        return integers(mean, "axes", range(4))
    axes = constant(given)
    return None if axes is None else [int(axis) for axis in axes.reshape(-1)]
