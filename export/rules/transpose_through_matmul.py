"""Move a transpose to the narrow side of a product with constant weights.

Before::

    y = Transpose(Add(MatMul(x, W), b), [0, 2, 1])              x: (B, N, I), W: (I, O), O > I
    z = MatMul(Transpose(x, [0, 2, 1]), W)                      x: (B, I, N), W: (I, O), O < I
    u = Transpose(Add(MatMul(x, W), b), [0, 3, 1, 2])           x: (B, H, W, I), O > I

After::

    y = Add(MatMul(W^T, Transpose(x, [0, 2, 1])), b as (O, 1))
    z = Transpose(MatMul(W^T, x), [0, 2, 1])
    u = Conv(Transpose(x, [0, 3, 1, 2]), W^T as (O, I, 1, 1), b)

since (x W)^T = W^T x^T. The transpose then moves N I numbers instead of N O.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    add_constant,
    constant,
    graph_of,
    integers,
    is_op,
    new_node,
    nodes_of,
    producer,
    redirect,
    remove_unused,
    sizes,
    sole_user,
    still_there,
)

_SWAP = [0, 2, 1]
_TO_MAP, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class TransposeThroughMatMul(ir.passes.InPlacePass):
    """Move transposes to the narrow side of products."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at what every transpose reads and at what reads it."""
        for node in nodes_of(model, "Transpose"):
            if not still_there(node):
                continue
            reason = _after(node)
            reason = _before(node) if reason is None else reason
            if reason:
                self.refusals += (Refusal(node.name or "", reason),)
            elif reason == "":
                self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


class _Product(NamedTuple):
    """x W + b as it stands in the graph."""

    x: ir.Value
    weights: Array
    """(I, O)."""
    bias: Array | None
    """(O,)."""
    nodes: tuple[ir.Node, ...]
    """From the last to the first."""


def _after(transpose: ir.Node) -> str | None:
    """Rewrite Transpose(x W + b); None when no such product stands before the transpose."""
    product = _product(transpose.inputs[0])
    order = integers(transpose, "perm", ())
    if product is None or order not in (_SWAP, _TO_MAP):
        return None
    inputs, outputs = product.weights.shape
    if outputs <= inputs:
        return f"its product is not wider than its input: {outputs} from {inputs} channels"
    if any(sole_user(node.outputs[0]) is None for node in product.nodes):
        return "its product is read in a second place"
    name = f"{product.nodes[-1].name}.transposed"
    turned = new_node(
        "Transpose", [product.x], before=transpose, name=f"{name}.input", attributes={"perm": order}
    )[0]
    answer = _multiply(turned, product, transpose, name)
    redirect(transpose.outputs[0], answer)
    remove_unused([transpose, *product.nodes])
    return ""


def _before(transpose: ir.Node) -> str | None:
    """Rewrite Transpose(x) W + b; None when no such product alone reads the transpose."""
    matmul = sole_user(transpose.outputs[0])
    order = integers(transpose, "perm", ())
    if matmul is None or not is_op(matmul, "MatMul") or order not in (_SWAP, _TO_LAST):
        return None
    add = sole_user(matmul.outputs[0])
    end = add if add is not None and is_op(add, "Add") and _product(add.outputs[0]) else matmul
    product = _product(end.outputs[0])
    if product is None or product.x is not transpose.outputs[0]:
        return None
    inputs, outputs = product.weights.shape
    if outputs >= inputs:
        return f"its product is not narrower than its input: {outputs} from {inputs} channels"
    source = transpose.inputs[0]
    assert source is not None
    name = f"{matmul.name}.transposed"
    answer = _multiply(source, product, end, name)
    turned = new_node("Transpose", [answer], before=end, name=f"{name}.output", attributes={"perm": order})[0]
    redirect(end.outputs[0], turned)
    remove_unused([*product.nodes, transpose])
    return ""


def _product(value: ir.Value | None) -> _Product | None:
    """Read ``value`` as x W + b with constant W (I, O) and b (O,)."""
    add, bias = producer(value, "Add"), None
    matmul = producer(value, "MatMul")
    if add is not None:
        index = 1 if constant(add.inputs[1]) is not None else 0
        bias, matmul = constant(add.inputs[index]), producer(add.inputs[1 - index], "MatMul")
    if matmul is None or (add is not None and bias is None):
        return None
    x, weights = matmul.inputs[0], constant(matmul.inputs[1])
    if x is None or weights is None or weights.ndim != 2 or constant(x) is not None:
        return None
    if bias is not None and bias.shape != weights.shape[1:]:
        return None
    return _Product(x, weights, bias, (matmul,) if add is None else (add, matmul))


def _multiply(x: ir.Value, product: _Product, before: ir.Node, name: str) -> ir.Value:
    """Write W^T x + b for x of shape (B, I, N), or as a 1x1 convolution for x of shape (B, I, H, W)."""
    graph, turned = graph_of(before), product.weights.T
    if len(sizes(product.x) or ()) == 4:
        constants = [add_constant(graph, f"{name}.weight", turned[:, :, None, None])]
        if product.bias is not None:
            constants.append(add_constant(graph, f"{name}.bias", product.bias))
        return new_node("Conv", [x, *constants], before=before, name=name)[0]
    weights = add_constant(graph, f"{name}.weight", turned)
    answer = new_node("MatMul", [weights, x], before=before, name=name)[0]
    if product.bias is None:
        return answer
    bias = add_constant(graph, f"{name}.bias", product.bias[:, None])
    return new_node("Add", [answer, bias], before=before, name=f"{name}.add")[0]
