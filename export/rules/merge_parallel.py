"""Merge products or convolutions of one input into one, and split its answer.

Before::

    a = Add(MatMul(x, A), p)          c = Conv(x, C, r)
    b = Add(MatMul(x, B), q)          d = Conv(x, D, s)

After::

    a, b = Split(Add(MatMul(x, [A B]), [p q]), axis=-1)
    c, d = Split(Conv(x, [C; D], [r; s]), axis=1)

One large product reads x once and fills the registers better than several narrow ones; the split costs one
pass over the answer. So it is only done where no part has more outputs than terms to sum for each of them.
Convolutions must agree in kernel, stride, padding and dilation and must not be grouped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    add_constant,
    constant,
    graph_of,
    input_of,
    integer,
    is_op,
    new_node,
    nodes_of,
    redirect,
    remove_unused,
    sole_user,
)


class _Branch(NamedTuple):
    """One product or convolution with its bias."""

    nodes: tuple[ir.Node, ...]
    """From the first to the last."""
    weights: Array
    """(I, O) of a product, (O, I, K...) of a convolution."""
    bias: Array | None
    """(O,)."""

    @property
    def axis(self) -> int:
        """Axis of the weights that counts outputs."""
        return 0 if is_op(self.nodes[0], "Conv") else 1

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.weights.shape[self.axis]


class MergeParallelMatMul(ir.passes.InPlacePass):
    """Merge products that read the same value."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Merge every group of two or more."""
        groups: dict[Hashable, list[_Branch]] = defaultdict(list)
        for node in nodes_of(model, "MatMul"):
            branch = _product(node)
            if branch is not None:
                groups[node.inputs[0], branch.bias is None].append(branch)
        self.changed, self.refusals = _merge_all(list(groups.values()), model.opset_imports.get("", 1))
        return ir.passes.PassResult(model, self.changed > 0)


class MergeParallelConv(ir.passes.InPlacePass):
    """Merge convolutions that read the same value in the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Merge every group of two or more."""
        groups: dict[Hashable, list[_Branch]] = defaultdict(list)
        for node in nodes_of(model, "Conv"):
            branch = _convolution(node)
            if branch is not None:
                groups[node.inputs[0], branch.weights.shape[1:], _attributes(node)].append(branch)
        self.changed, self.refusals = _merge_all(list(groups.values()), model.opset_imports.get("", 1))
        return ir.passes.PassResult(model, self.changed > 0)


def _merge_all(groups: Sequence[list[_Branch]], opset: int) -> tuple[int, tuple[Refusal, ...]]:
    changed = 0
    refusals: list[Refusal] = []
    for group in groups:
        reason = _why_not(group, opset) if len(group) > 1 else None
        if reason:
            refusals.append(Refusal(group[0].nodes[0].name or "", reason))
        elif reason == "":
            _merge(group)
            changed += 1
    return changed, tuple(refusals)


def _why_not(group: Sequence[_Branch], opset: int) -> str:
    if opset < 13:
        return f"the Split of opset {opset} takes no sizes as an input"
    if is_op(group[0].nodes[0], "Conv") and integer(group[0].nodes[0], "group", 1) != 1:
        return "the convolutions are grouped, so that merged channels would not stand side by side"
    if len({branch.weights.dtype for branch in group}) > 1:
        return "the weights have different types"
    for branch in group:
        summed = branch.weights.size // branch.outputs
        if branch.outputs > summed:
            return (
                f"splitting {branch.outputs} outputs costs more than merging saves with {summed} terms each"
            )
    return ""


def _merge(group: Sequence[_Branch]) -> None:
    first = group[0].nodes[0]
    graph, name = graph_of(first), f"{first.name}.parallel"
    weights = np.concatenate([branch.weights for branch in group], axis=group[0].axis)
    operands = [first.inputs[0], add_constant(graph, f"{name}.weight", weights)]
    bias = _merged_bias(group, graph, name)
    is_conv = is_op(first, "Conv")
    if is_conv and bias is not None:
        operands.append(bias)
    attributes = {k: a.value for k, a in first.attributes.items()}
    answer = new_node(first.op_type, operands, before=first, name=name, attributes=attributes)[0]
    if not is_conv and bias is not None:
        answer = new_node("Add", [answer, bias], before=first, name=f"{name}.add")[0]
    sizes = add_constant(graph, f"{name}.sizes", np.array([b.outputs for b in group], dtype=np.int64))
    axis = {"axis": 1 if is_conv else -1}
    parts = new_node(
        "Split", [answer, sizes], before=first, name=f"{name}.split", attributes=axis, outputs=len(group)
    )
    for branch, part in zip(group, parts, strict=True):
        redirect(branch.nodes[-1].outputs[0], part)
        remove_unused(branch.nodes[::-1])


def _merged_bias(group: Sequence[_Branch], graph: ir.Graph, name: str) -> ir.Value | None:
    if all(branch.bias is None for branch in group):
        return None
    parts = [np.zeros(b.outputs, b.weights.dtype) if b.bias is None else b.bias for b in group]
    return add_constant(graph, f"{name}.bias", np.concatenate(parts))


def _product(node: ir.Node) -> _Branch | None:
    weights = constant(input_of(node, 1))
    if weights is None or weights.ndim != 2 or constant(node.inputs[0]) is not None:
        return None
    add = sole_user(node.outputs[0])
    if add is None or not is_op(add, "Add"):
        return _Branch((node,), weights, None)
    bias = constant(add.inputs[1 if add.inputs[0] is node.outputs[0] else 0])
    if bias is None or bias.shape != weights.shape[1:]:
        return _Branch((node,), weights, None)
    return _Branch((node, add), weights, bias)


def _convolution(node: ir.Node) -> _Branch | None:
    weights, bias = constant(input_of(node, 1)), constant(input_of(node, 2))
    if weights is None or (input_of(node, 2) is not None and bias is None):
        return None
    return _Branch((node,), weights, bias)


def _attributes(node: ir.Node) -> Hashable:
    return tuple(sorted((name, str(attribute.value)) for name, attribute in node.attributes.items()))
