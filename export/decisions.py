"""Where a graph decides: what float16 must not round before a network chooses.

A router keeps the best of its scores, ``scores -> TopK -> indices``. Where two scores are closer than what
float16 leaves of them, another head or expert is chosen, and the answer does not move by a rounding: it
jumps. What jumps is read by the decisions after it, which flip in turn. Three things are done about it, in
this order and only as far as they are needed; ``benchmarks/half_decisions.py`` measures each::

    scores     from a decision back to the products they come from: routers in float32, as mixtures of
               experts are trained (Switch Transformers, arXiv 2101.03961)
    streams    the sums x + f(x) that a decision reads: each would round all that came before it
    before     everything that the *first* decisions read: the earlier one flips, the more others follow

    Conv -> TopK -> MatMul -> Softmax -> TopK -> MatMul      two decisions
    32      32      32        32         32      16          scores
    32      32      16        16         16      16          before the first one only

A decision is a node that makes integers, truth values or whole numbers of numbers computed from the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from .rules.graph import constant, is_op

SHARES = (0, 1 / 2, 3 / 4, 1)
"""Of the decisions, the shares before which everything is kept, in this order: half of the rest each time."""

PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention", "Scan", "Loop", "If")
"""Operators that make one number out of many; up to them, a rounding is one of the number itself."""

_JUMPS = ("Sign", "Round", "Floor", "Ceil")
"""Operators whose floats are as good as integers."""
_SIZES = ("Shape", "Size")
"""Operators that do not look at the numbers."""


def decisions(model: ir.Model) -> tuple[ir.Node, ...]:
    """List the nodes of the main graph that decide, in the order of the graph.

    Args:
        model: The graph, with the types of all values known.
    """
    found: list[ir.Node] = []
    computed = set(model.graph.inputs)
    for node in model.graph:
        read = [value for value in _reads(node) if value in computed]
        if not read or is_op(node, *_SIZES):
            continue
        computed.update(node.outputs)
        if any(_is_real(value) for value in read) and _decides(node):
            found.append(node)
    return tuple(found)


def counts(found: Sequence[ir.Node]) -> list[int]:
    """Say before how many of the decisions everything is kept, in the order in which that is tried."""
    return sorted({math.ceil(share * len(found)) for share in SHARES})


def scores(found: Iterable[ir.Node]) -> dict[ir.Node, str]:
    """Give decisions and what computes their scores, back to the products, with the reason."""
    made: dict[ir.Node, str] = {}
    for decision in found:
        for node in (decision, *back_to_products(decision)):
            made.setdefault(node, f"{decision.name} ({decision.op_type}) decides by it")
    return made


def streams(model: ir.Model, found: Sequence[ir.Node]) -> dict[ir.Node, str]:
    """Give the sums x + f(x) that decisions read, with the reason.

    Args:
        model: The graph.
        found: Its decisions.
    """
    read, sums = before(model, found), set(_residual_sums(model))
    return {node: f"a sum of all before it; {why}" for node, why in read.items() if node in sums}


def before(model: ir.Model, kept: Iterable[ir.Node]) -> dict[ir.Node, str]:
    """Give everything that some decisions read, and the decisions, each with the first that reads it.

    Args:
        model: The graph.
        kept: Decisions, the first one first.
    """
    found: dict[ir.Node, str] = {}
    for decision in kept:
        reason = f"{decision.name} ({decision.op_type}) decides by it"
        waiting = [decision]
        while waiting:
            node = waiting.pop()
            if node in found or node.graph is not model.graph:
                continue
            found[node] = reason
            waiting += [made for value in _reads(node) if (made := value.producer()) is not None]
    return found


def back_to_products(node: ir.Node) -> Iterator[ir.Node]:
    """List what computes a node's operands, back to the products that they come from, those included."""
    seen: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        for value in waiting.pop().inputs:
            made = value.producer() if value is not None and constant(value) is None else None
            if made is None or made in seen:
                continue
            seen.add(made)
            yield made
            if not is_op(made, *PRODUCTS):
                waiting.append(made)


def _residual_sums(model: ir.Model) -> Iterator[ir.Node]:
    """List the sums of which one operand was computed from the other."""
    own: dict[ir.Value, int] = {value: 1 << i for i, value in enumerate(model.graph.inputs)}
    past: dict[ir.Value, int] = {}
    for i, node in enumerate(model.graph, start=len(own)):
        seen = 0
        for value in _reads(node):
            seen |= own.get(value, 0) | past.get(value, 0)
        for value in node.outputs:
            own[value], past[value] = 1 << i, seen
        if is_op(node, "Add"):
            a, b = node.inputs
            if a is not None and b is not None and (_in(own, past, a, b) or _in(own, past, b, a)):
                yield node


def _in(own: dict[ir.Value, int], past: dict[ir.Value, int], early: ir.Value, late: ir.Value) -> bool:
    return bool(own.get(early, 0) & past.get(late, 0))


def _decides(node: ir.Node) -> bool:
    read = (value for value in node.outputs if value.uses() or value.is_graph_output())
    return is_op(node, *_JUMPS) or any(value.dtype is not None and not _is_real(value) for value in read)


def _is_real(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """Give the inputs of a node, and what its inner graphs read, their own values among it."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph().all_nodes():
                yield from (value for value in inner.inputs if value is not None)
