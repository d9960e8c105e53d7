"""Write an Attention operator as the two products and the softmax it stands for.

Before::

    y = Attention(q, k, v, mask)                      (batch, heads, length, size)

After::

    y = MatMul(Softmax(Add(MatMul(Mul(q, scale), Transpose(k)), mask)), v)

TensorRT has kernels for the operator in float16 only, and for some sizes only; the products it takes in every
precision, and fuses by itself. Tensors of three axes are split into heads before and joined after.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    add_constant,
    graph_of,
    input_of,
    integer,
    new_node,
    nodes_of,
    redirect,
    remove_unused,
    sizes,
)

_MASK, _PAST = 3, (4, 5, 6)
_FLOAT = ir.DataType.FLOAT


class AttentionToMatMul(ir.passes.InPlacePass):
    """Replace Attention in float32 by MatMul, Softmax and MatMul."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite what can be; the others keep their operator and get a reason."""
        for node in nodes_of(model, "Attention"):
            if reason := next(_obstacles(node), ""):
                self.refusals += (Refusal(node.name or "", reason),)
                continue
            redirect(node.outputs[0], _products(node))
            remove_unused([node])
            self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _obstacles(node: ir.Node) -> Iterator[str]:
    shapes = [sizes(input_of(node, index)) for index in range(3)]
    ranks = {len(shape) if shape is not None else 0 for shape in shapes}
    if len(ranks) != 1 or not ranks <= {3, 4}:
        yield "its inputs are not known to have three or four axes"
        return
    if {value.dtype for value in node.inputs[:3] if value is not None} != {_FLOAT}:
        yield "it is not in float32"
    if any(input_of(node, index) is not None for index in _PAST):
        yield "it continues keys and values of an earlier call"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        yield "its keys, values or scores are read as well"
    if node.attributes.get_float("softcap", 0.0):
        yield "its scores are capped"
    if node.attributes.get_int("softmax_precision", _FLOAT.value) != _FLOAT.value:
        yield "its softmax is in another precision"
    heads, key_heads = _heads(node)
    if heads is None or heads != key_heads:
        yield "several heads share keys and values"
    if _scale(node) is None:
        yield "the size of its heads is not known ahead of time"
    if integer(node, "is_causal", 0) and _triangle(node) is None:
        yield "it is causal, and its lengths are not known ahead of time"
    mask = input_of(node, _MASK)
    if mask is not None and mask.dtype not in (_FLOAT, ir.DataType.BOOL):
        yield "its mask is neither float32 nor boolean"


def _heads(node: ir.Node) -> tuple[object, object]:
    """Give the number of heads of queries, and of keys and values."""
    queries, keys = sizes(node.inputs[0]) or [], sizes(node.inputs[1]) or []
    if len(queries) == 4:
        return queries[1], keys[1]
    return integer(node, "q_num_heads", 0) or None, integer(node, "kv_num_heads", 0) or None


def _scale(node: ir.Node) -> float | None:
    given = node.attributes.get("scale")
    if given is not None:
        return given.as_float()
    shape = sizes(node.inputs[0]) or []
    width = shape[-1]
    if not isinstance(width, int):
        return None
    heads = 1 if len(shape) == 4 else integer(node, "q_num_heads", 1)
    return 1 / math.sqrt(width // heads)


def _triangle(node: ir.Node) -> Array | None:
    """Give (queries, keys): 0 where a query sees a key, minus infinity elsewhere."""
    lengths = [(sizes(value) or [None])[-2] for value in node.inputs[:2]]
    queries, keys = lengths
    if not isinstance(queries, int) or not isinstance(keys, int):
        return None
    return np.where(np.tri(queries, keys, dtype=bool), 0, -np.inf).astype(np.float32)


def _products(node: ir.Node) -> ir.Value:
    name, split = node.name or "attention", len(sizes(node.inputs[0]) or []) == 3
    queries, keys, values = (_per_head(node, index) if split else node.inputs[index] for index in range(3))
    scale = add_constant(graph_of(node), f"{name}.scale", np.array(_scale(node), np.float32))
    scaled = _node(node, "Mul", [queries, scale], "scaled")
    turned = _node(node, "Transpose", [keys], "turned", perm=[0, 1, 3, 2])
    scores = _masked(node, _node(node, "MatMul", [scaled, turned], "scores"))
    weights = _node(node, "Softmax", [scores], "weights", axis=-1)
    answer = _node(node, "MatMul", [weights, values], "answer")
    if not split:
        return answer
    last = _node(node, "Transpose", [answer], "joined", perm=[0, 2, 1, 3])
    return _reshape(node, last, [0, 0, -1], "tokens")


def _per_head(node: ir.Node, index: int) -> ir.Value:
    """Split (batch, length, heads size) into (batch, heads, length, size)."""
    heads, part = integer(node, "q_num_heads", 1), ("queries", "keys", "values")[index]
    apart = _reshape(node, node.inputs[index], [0, 0, heads, -1], f"{part}.split")
    return _node(node, "Transpose", [apart], part, perm=[0, 2, 1, 3])


def _masked(node: ir.Node, scores: ir.Value) -> ir.Value:
    name, graph = node.name or "attention", graph_of(node)
    mask = input_of(node, _MASK)
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        never = add_constant(graph, f"{name}.never", np.array(-np.inf, np.float32))
        scores = _node(node, "Where", [mask, scores, never], "seen")
    elif mask is not None:
        scores = _node(node, "Add", [scores, mask], "biased")
    if integer(node, "is_causal", 0):
        triangle = _triangle(node)
        assert triangle is not None, "refused before"
        scores = _node(node, "Add", [scores, add_constant(graph, f"{name}.triangle", triangle)], "causal")
    return scores


def _reshape(node: ir.Node, value: ir.Value | None, target: Sequence[int], part: str) -> ir.Value:
    shape = add_constant(graph_of(node), f"{node.name}.{part}.shape", np.array(target, np.int64))
    return _node(node, "Reshape", [value, shape], part)


def _node(
    node: ir.Node, operator: str, inputs: Sequence[ir.Value | None], part: str, **facts: int | Sequence[int]
) -> ir.Value:
    name = f"{node.name or 'attention'}.{part}"
    (made,) = new_node(operator, inputs, before=node, name=name, attributes=facts)
    return made
