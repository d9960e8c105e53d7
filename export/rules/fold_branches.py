"""Sum parallel convolutions of one input into one convolution.

Before::

    y = Add(Conv(x, V, b, pads=[1, 1, 1, 1]), Conv(x, W, c))         V: (O, I, 3, 3), W: (O, I, 1, 1)

After::

    y = Conv(x, V + pad(W), b + c, pads=[1, 1, 1, 1])                W in the middle of zeros

The branches must agree in stride, dilation and groups, and their kernels must look at the same place: the
smaller one is padded by as much less as its kernel reaches less far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    constant,
    float_array,
    input_of,
    integer,
    integers,
    nodes_of,
    producer,
    redirect,
    remove_unused,
    set_constant,
)
from .weights import why_not_foldable


class FoldBranches(ir.passes.InPlacePass):
    """Fold sums of parallel convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in order, so that a sum of three branches is folded twice."""
        for add in nodes_of(model, "Add"):
            convs = [producer(value, "Conv") for value in add.inputs]
            if convs[0] is None or convs[1] is None or convs[0].inputs[0] is not convs[1].inputs[0]:
                continue
            reason = _fold(add, convs[0], convs[1]) if convs[0] is not convs[1] else _TWICE
            if reason:
                self.refusals += (Refusal(add.name or "", reason),)
            else:
                self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


_TWICE = "both sides are the same convolution"


class _Geometry(NamedTuple):
    """What must agree, besides the kernel: twice the centre of the kernel, seen from the first pixel, too."""

    strides: list[int]
    dilations: list[int]
    groups: int
    outputs: int
    centre: list[int]
    shrink: list[int]


def _fold(add: ir.Node, one: ir.Node, other: ir.Node) -> str:
    reason = why_not_foldable(one) or why_not_foldable(other)
    weights = [constant(conv.inputs[1]) for conv in (one, other)]
    if reason or weights[0] is None or weights[1] is None:
        return reason
    if any(c.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") for c in (one, other)):
        return "a branch pads by itself (auto_pad)"
    if _geometry(one, weights[0]) != _geometry(other, weights[1]):
        return "the branches differ in stride, dilation, groups or in the place they look at"
    large, small = (one, other) if weights[0].shape[2:] >= weights[1].shape[2:] else (other, one)
    first, second = (weights[0], weights[1]) if large is one else (weights[1], weights[0])
    if any(a < b for a, b in zip(first.shape[2:], second.shape[2:], strict=True)):
        return "neither kernel contains the other"
    _write(large, float_array(first) + _surrounded(second, first.shape), _bias(one, other), first.dtype)
    redirect(add.outputs[0], large.outputs[0])
    remove_unused([add, small])
    return ""


def _geometry(conv: ir.Node, weights: Array) -> _Geometry:
    rank = weights.ndim - 2
    dilations, pads = integers(conv, "dilations", [1] * rank), integers(conv, "pads", [0] * 2 * rank)
    reach = [d * (k - 1) for d, k in zip(dilations, weights.shape[2:], strict=True)]
    return _Geometry(
        strides=integers(conv, "strides", [1] * rank),
        dilations=dilations,
        groups=integer(conv, "group", 1),
        outputs=weights.shape[0],
        centre=[r - 2 * p for r, p in zip(reach, pads[:rank], strict=True)],
        shrink=[r - a - b for r, a, b in zip(reach, pads[:rank], pads[rank:], strict=True)],
    )


def _surrounded(weights: Array, shape: tuple[int, ...]) -> Array:
    """Put a kernel into the middle of zeros; both sizes are odd or both are even, since the centres agree."""
    extra = [(a - b) // 2 for a, b in zip(shape[2:], weights.shape[2:], strict=True)]
    return np.pad(float_array(weights), [(0, 0), (0, 0), *((e, e) for e in extra)])


def _bias(one: ir.Node, other: ir.Node) -> Array | None:
    found = [constant(input_of(conv, 2)) for conv in (one, other)]
    present = [float_array(bias) for bias in found if bias is not None]
    return np.sum(present, axis=0) if present else None


def _write(conv: ir.Node, weights: Array, bias: Array | None, kind: np.dtype[np.generic]) -> None:
    set_constant(conv, 1, weights.astype(kind), f"{conv.name}.weight")
    if bias is not None:
        set_constant(conv, 2, bias.astype(kind), f"{conv.name}.bias")
