"""Where integers are worth it: a decision per node, as a value that the report can show.

Only inputs of integer operators are quantized, and their answers where the engine's kernel or the next
operator wants it. Everything between float operators stays in float, and so costs neither time nor accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ..export.artifact import Refusal
from .graph import (
    MERGING,
    PASSING,
    WEIGHTED,
    activations,
    answers,
    clamped,
    constant,
    label,
    nodes,
    origin,
    range_of,
    source,
)
from .grids import usable
from .layers import has_weights, multiplications, unfit_weights
from .scheme import QdqStyle, QuantScheme

_DATA = frozenset({ir.DataType.FLOAT, None})
"""Types that can be quantized; None is unknown, and then the observed range decides."""


@dataclass(frozen=True)
class Placement:
    """Which nodes compute in integers, which activations are quantized for them, and what was declined."""

    nodes: tuple[str, ...]
    """First output of each integer node, in graph order: unique even where nodes have no name."""
    tensors: tuple[str, ...]
    """Quantized activations, in graph order."""
    rounded: tuple[str, ...]
    """Those of ``tensors`` that every reader gets rounded, since the engine never makes them in float."""
    refusals: tuple[Refusal, ...]


def watched(model: ir.Model) -> tuple[str, ...]:
    """Name every activation that some engine may want quantized."""
    found: dict[str, None] = {}
    for node in nodes(model.graph):
        if node.op_type not in WEIGHTED | MERGING | PASSING:
            continue
        outputs = [clamped(v) for v in answers(node)]
        for value in [origin(v) for v in (*activations(node), *outputs)]:
            if value.name and value.dtype in _DATA:
                found[value.name] = None
    return tuple(found)


def place(
    model: ir.Model, ranges: Mapping[str, tuple[float, float]], style: QdqStyle, scheme: QuantScheme
) -> Placement:
    """Decide where integers pay.

    Args:
        model: The float graph; not changed.
        ranges: Observed ranges by activation name.
        style: What the engine takes and gains from.
        scheme: What the user asks for.

    Returns:
        The decision, with a reason for every node that the style names and that stays in float.
    """
    return _Plan(model.graph, ranges, style, scheme).settle()


class _Plan:
    """A set of integer nodes that shrinks until each of them is justified by the others."""

    def __init__(
        self,
        graph: ir.Graph,
        ranges: Mapping[str, tuple[float, float]],
        style: QdqStyle,
        scheme: QuantScheme,
    ) -> None:
        self.graph, self.ranges, self.style, self.scheme = graph, ranges, style, scheme
        self.refused: dict[ir.Node, str] = {}
        self.integer: dict[ir.Node, None] = {}
        layers = [n for n in nodes(graph) if has_weights(n)]
        self.ends = {
            n
            for n, kept in ((layers[:1], scheme.keep_first), (layers[-1:], scheme.keep_last))
            if kept
            for n in n
        }

    def settle(self) -> Placement:
        """Start from every node that could be integer and drop what is not justified, until all are."""
        for node in nodes(self.graph):
            if node.op_type in self.style.operators:
                self._judge(node, self._unfit(node))
        changed = True
        while changed:
            wanted = self.quantized()
            doubts = {n: self._unjustified(n, wanted) for n in self.integer}
            changed = any(doubts.values())
            for node, reason in doubts.items():
                self._judge(node, reason)
        return self._placement()

    def _judge(self, node: ir.Node, reason: str) -> None:
        if reason:
            self.refused[node] = reason
            self.integer.pop(node, None)
        else:
            self.integer[node] = None

    def _placement(self) -> Placement:
        wanted = self.quantized()
        names = [_name(v) for v in wanted]
        return Placement(
            tuple(_name(n.outputs[0]) for n in self.integer),
            tuple(names),
            tuple(_name(v) for v in wanted if self.rounded(v)),
            tuple(Refusal(label(n), reason) for n, reason in self.refused.items()),
        )

    # What follows from a set of integer nodes.

    def quantized(self) -> dict[ir.Value, None]:
        """List the activations that the integer nodes need on a grid, in graph order."""
        needed: set[ir.Value] = set()
        for node in reversed(list(self.integer)):
            if node.op_type in PASSING:
                if any(v in needed for v in answers(node)):
                    needed.update([*activations(node), *answers(node)])
                continue
            needed.update(activations(node))
            if node.op_type in self.style.outputs:
                needed.add(clamped(node.outputs[0]))
        everything = [*self.graph.inputs, *(v for n in self.graph for v in n.outputs)]
        return {v: None for v in everything if v in needed}

    def rounded(self, value: ir.Value) -> bool:
        """Tell whether an activation exists in integers only."""
        node = source(value)
        if node is None or node not in self.integer:
            return False
        return node.op_type in self.style.outputs or node.op_type in PASSING

    # Reasons that do not depend on other decisions.

    def _unfit(self, node: ir.Node) -> str:
        if {node.name, node.outputs[0].name} & self.scheme.keep:
            return "the scheme keeps it in float"
        if node in self.ends:
            return "the scheme keeps the first or last layer in float"
        if node.op_type in WEIGHTED:
            reason = unfit_weights(node, self.style) or self._beside_float(node) or self._before_axis(node)
        elif node.op_type in MERGING:
            reason = "one of its inputs is constant" if len(activations(node)) < _arity(node) else ""
        elif node.op_type in PASSING:
            reason = ""
        else:
            reason = "no integer form is known"
        return reason or self._unfit_ranges(node)

    def _unfit_ranges(self, node: ir.Node) -> str:
        values = activations(node)
        if node.op_type in self.style.outputs:
            values = [*values, clamped(node.outputs[0])]
        for value in values:
            if value.dtype not in _DATA:
                return f"{value.name} is not float32"
            found = range_of(value, self.ranges)
            if found is None:
                return f"no range of {value.name} was collected"
            if reason := usable(*found, self.style):
                return f"{value.name}: {reason}"
        return ""

    def _beside_float(self, node: ir.Node) -> str:
        """Refuse a small node next to an activation function that this engine computes in float."""
        if not self.style.float_activations or multiplications(node) >= self.style.pays_from:
            return ""
        answer = clamped(node.outputs[0])
        near = {c.op_type for c in answer.consumers()}
        for value in activations(node):
            near |= _made_from(value, 3)
        found = sorted(near & self.style.float_activations)
        return f"it is too small to pay for conversions next to {', '.join(found)}" if found else ""

    def _before_axis(self, node: ir.Node) -> str:
        """Refuse a layer whose answer gets a new last axis, if the engine cannot carry scales there."""
        added = self.style.refuses_new_axes and any(map(_adds_last_axis, answers(node)[0].consumers()))
        return "its answer is given a new last axis, which this engine refuses in integers" if added else ""

    # Reasons that do.

    def _unjustified(self, node: ir.Node, wanted: Mapping[ir.Value, None]) -> str:
        if node.op_type in WEIGHTED:
            return ""
        if node.op_type in PASSING:
            return "" if any(v in wanted for v in answers(node)) else "nothing after it computes in integers"
        inputs = activations(node)
        if all(self.rounded(v) for v in inputs):
            return ""  # one answer is restored to float instead of every input
        if strangers := [v.name for v in inputs if not self._at_hand(v, node)]:
            return f"{', '.join(str(s) for s in strangers)} is computed in float"
        return (
            ""
            if self._read_by_integers(clamped(node.outputs[0]))
            else "nothing after it computes in integers"
        )

    def _at_hand(self, value: ir.Value, reader: ir.Node) -> bool:
        """Tell whether a value is there in integers already, without converting it for ``reader``."""
        node = source(value)
        if node is not None and node in self.integer:
            if node.op_type in PASSING:
                return all(self._at_hand(v, node) for v in activations(node))
            return True
        return any(c in self.integer and c.op_type in WEIGHTED for c in value.consumers() if c is not reader)

    def _read_by_integers(self, value: ir.Value) -> bool:
        for reader in value.consumers():
            if reader not in self.integer:
                continue
            if reader.op_type not in PASSING or any(self._read_by_integers(v) for v in answers(reader)):
                return True
        return False


def _arity(node: ir.Node) -> int:
    return 1 if node.op_type in {"Resize", "ReduceMean"} else sum(v is not None for v in node.inputs)


def _adds_last_axis(node: ir.Node) -> bool:
    axes = constant(node.inputs[1]) if node.op_type == "Unsqueeze" else None
    rank = len(node.outputs[0].shape or ())
    return axes is not None and any(int(axis) in (-1, rank - 1) for axis in axes.flat)


def _made_from(value: ir.Value, hops: int) -> set[str]:
    """Name the operators behind a value, through as many element-wise products and sums."""
    node = value.producer()
    if node is None:
        return set()
    found = {node.op_type}
    if hops and node.op_type in {"Mul", "Add", "Div"}:
        for inner in node.inputs:
            found |= _made_from(inner, hops - 1) if inner is not None else set()
    return found


def _name(value: ir.Value) -> str:
    return value.name or ""
