"""Fold constant factors and offsets into the weights beside them.

Before::

    y = Add(Mul(Conv(x, W, b), s), t)                   s, t: one number per output channel, or one for all
    z = MatMul(Mul(Transpose(Add(MatMul(x, Q), q)), c), k)       c: one number
    u = Conv(Mul(x, s), V)                              s: one number per input channel, or one for all

After::

    y = Conv(x, W s, b s + t)
    z = MatMul(Transpose(Add(MatMul(x, Q c), q c)), k)
    u = Conv(x, V s)                                    s along the input channels of V

Mul, Div, Add and Sub by constants take part. One number passes layout operators on its way up to the weights.
An offset before a padded convolution is not folded: the padding would have to hold it too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    can_redirect,
    constant,
    float_array,
    input_of,
    integer,
    is_op,
    nodes_of,
    producer,
    redirect,
    remove_unused,
    set_constant,
    sizes,
    sole_user,
)
from .merge_transposes import LAYOUT
from .weights import HOSTS, scale_inputs, scale_outputs, why_not_editable, why_not_foldable

_PASSED = (*LAYOUT, "Slice", "Identity")


class FoldScale(ir.passes.InPlacePass):
    """Fold constant factors and offsets into weights."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Try the weights before each factor or offset, then those after it."""
        for node in nodes_of(model, "Mul", "Div", "Add", "Sub"):
            affine = _affine(node)
            if affine is None or _is_bias(node):
                continue
            reason = _fold(node, *affine)
            if reason:
                self.refusals += (Refusal(node.name or "", reason),)
            else:
                self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _affine(node: ir.Node) -> tuple[ir.Value, Array, Array] | None:
    """Read a node as ``scale x + shift`` with constants; None when it is anything else."""
    index = 1 if constant(input_of(node, 1)) is not None else 0
    x, number = node.inputs[1 - index], constant(input_of(node, index))
    if x is None or number is None or constant(x) is not None or number.dtype.kind != "f":
        return None
    rank = len(sizes(x) or ())
    if number.ndim > rank:
        return None
    one, zero = np.ones(()), np.zeros(())
    c = float_array(number).reshape(()) if number.size == 1 else float_array(number)
    if is_op(node, "Add"):
        return x, one, c
    if is_op(node, "Sub"):
        return (x, one, -c) if index == 1 else (x, -one, c)
    if is_op(node, "Div"):
        # One divided by the network is not a factor.
        return (x, 1 / c, zero) if index == 1 and np.all(c != 0) else None
    return x, c, zero


def _is_bias(node: ir.Node) -> bool:
    """Say whether an Add is the bias of the product before it, which is as folded as it can be."""
    x = node.inputs[0] if constant(node.inputs[1]) is not None else node.inputs[1]
    return is_op(node, "Add") and producer(x, "MatMul") is not None


def _fold(node: ir.Node, x: ir.Value, scale: Array, shift: Array) -> str:
    """Fold a node into weights before it, after it, or at the other side of a product; else say why not."""
    if not can_redirect(node.outputs[0], x):
        return "it stands between two outputs of the network"
    reason = _up(x, scale, shift)
    if reason and not shift.any() and (_down(node, scale) or _across(node, scale)):
        reason = ""
    if not reason:
        redirect(node.outputs[0], x)
        remove_unused([node])
    return reason


def _up(value: ir.Value, scale: Array, shift: Array) -> str:
    """Make ``value`` be ``scale value + shift`` by changing the weights it comes from."""
    node = value.producer()
    while node is not None and is_op(node, *_PASSED) and scale.ndim == shift.ndim == 0:
        source = node.inputs[0]
        if sole_user(value) is None or source is None:
            return f"{value.name} is read in a second place"
        value, node = source, source.producer()
    if node is not None and _is_bias_of_weights(node):
        return _into_product(node, scale, shift)
    if node is None or not is_op(node, *HOSTS):
        return "no weights stand before it"
    if is_op(node, "MatMul") and shift.any():
        return "a MatMul has no bias to take an offset"
    vectors = _vectors(node, scale, shift)
    reason = why_not_foldable(node) or ("" if vectors else _NOT_PER_CHANNEL)
    if vectors and not reason:
        scale_outputs(node, vectors[0], vectors[1] if shift.any() else None)
    return reason


_NOT_PER_CHANNEL = "its constant is not one number per output channel"


def _is_bias_of_weights(node: ir.Node) -> bool:
    return is_op(node, "Add") and any(constant(v) is not None for v in node.inputs) and _is_bias(node)


def _into_product(bias: ir.Node, scale: Array, shift: Array) -> str:
    """Change a MatMul together with the Add of its bias."""
    index = 1 if constant(bias.inputs[1]) is not None else 0
    offset, product = constant(bias.inputs[index]), producer(bias.inputs[1 - index], "MatMul")
    if offset is None or product is None:
        return "no weights stand before it"
    if sole_user(bias.outputs[0]) is None:
        return f"{bias.outputs[0].name} is read in a second place"
    vectors = _vectors(product, scale, shift)
    reason = why_not_foldable(product) or ("" if vectors else _NOT_PER_CHANNEL)
    if vectors and not reason:
        scale_outputs(product, vectors[0])
        moved = float_array(offset) * vectors[0] + vectors[1]
        set_constant(bias, index, moved.astype(offset.dtype), f"{bias.name}.bias")
    return reason


def _down(node: ir.Node, scale: Array) -> bool:
    """Scale the input channels of the weights that read ``node``, when they alone read it."""
    user = sole_user(node.outputs[0])
    if user is None or not is_op(user, *HOSTS) or user.inputs[0] is not node.outputs[0]:
        return False
    if why_not_editable(user) or (is_op(user, "Gemm") and integer(user, "transA", 0)):
        return False
    vector = _vector(node.outputs[0], scale, 1 if is_op(user, "Conv", "ConvTranspose") else -1)
    if vector is None:
        return False
    scale_inputs(user, vector)
    return True


def _across(node: ir.Node, scale: Array) -> bool:
    """Move one factor to the other side of a product of two answers: (a c) b = a (b c)."""
    user = sole_user(node.outputs[0])
    if user is None or not is_op(user, "MatMul") or scale.ndim:
        return False
    other = user.inputs[1] if user.inputs[0] is node.outputs[0] else user.inputs[0]
    if other is None or other is node.outputs[0] or sole_user(other) is None or constant(other) is not None:
        return False
    return _into_factor(other, scale) or not _up(other, scale, np.zeros(()))


def _into_factor(value: ir.Value, scale: Array) -> bool:
    """Multiply into the constant of a Mul that makes ``value``."""
    factor = producer(value, "Mul")
    index = next((i for i, v in enumerate(factor.inputs) if constant(v) is not None), -1) if factor else -1
    old = constant(factor.inputs[index]) if factor is not None and index >= 0 else None
    if factor is None or old is None:
        return False
    set_constant(factor, index, (float_array(old) * scale).astype(old.dtype), f"{factor.name}.factor")
    return True


def _vectors(host: ir.Node, scale: Array, shift: Array) -> tuple[Array, Array] | None:
    axis = 1 if is_op(host, "Conv", "ConvTranspose") else -1
    found = [_vector(host.outputs[0], c, axis) for c in (scale, shift)]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def _vector(value: ir.Value, number: Array, axis: int) -> Array | None:
    """Read a constant that is broadcast over ``value`` as one number per channel: (C,), or () for all.

    Args:
        value: With its channels at ``axis``.
        number: Of any shape.
        axis: Of the channels.
    """
    dims = sizes(value)
    if number.ndim == 0 or dims is None:
        return number if number.ndim == 0 else None
    shape = (1,) * (len(dims) - number.ndim) + number.shape
    channels = shape[axis]
    alone = np.prod(shape) == channels == dims[axis]
    return number.reshape(-1) if alone else None
