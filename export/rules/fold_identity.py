"""Take a short cut around a convolution into its kernel.

Before::

    y = Add(Conv(x, W, b), x)
    z = Add(h, Transpose(Conv(Transpose(h, [0, 2, 1]), W, b), [0, 2, 1]))

After::

    y = Conv(x, W + I, b)            I[o, o mod C/G, centre] = 1, else 0
    z = Transpose(Conv(Transpose(h, [0, 2, 1]), W + I, b), [0, 2, 1])

The convolution must keep the size: stride 1, odd kernel, padded by half its reach, as many channels out
as in. Layout operators around it must undo each other.
"""

from __future__ import annotations

import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    can_redirect,
    constant,
    float_array,
    integer,
    integers,
    is_op,
    nodes_of,
    redirect,
    remove_unused,
    set_constant,
    sole_user,
)
from .merge_transposes import LAYOUT, does_nothing
from .weights import why_not_foldable


class FoldIdentity(ir.passes.InPlacePass):
    """Fold identity branches into convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold every sum of a convolution's answer and its input."""
        for add in nodes_of(model, "Add"):
            for branch, other in ((0, 1), (1, 0)):
                reason = _fold(add, branch, other)
                if reason is None:
                    continue
                if reason:
                    self.refusals += (Refusal(add.name or "", reason),)
                else:
                    self.changed += 1
                break
        return ir.passes.PassResult(model, self.changed > 0)


def _fold(add: ir.Node, branch: int, other: int) -> str | None:
    """Fold; give the reason when the pattern is there but may not be folded, None when it is not there."""
    around = _around(add.inputs[branch], add.inputs[other])
    if around is None:
        return None
    conv, path = around
    reason = _why_not_aligned(conv) or why_not_foldable(conv)
    if not reason and any(sole_user(node.outputs[0]) is None for node in path):
        reason = "the answer of the convolution is read in a second place"
    weights, value = constant(conv.inputs[1]), add.inputs[branch]
    if reason or weights is None or value is None or not can_redirect(add.outputs[0], value):
        return reason or "it stands between two outputs of the network"
    set_constant(conv, 1, _with_identity(weights), f"{conv.name}.weight")
    redirect(add.outputs[0], value)
    remove_unused([add])
    return ""


def _around(value: ir.Value | None, source: ir.Value | None) -> tuple[ir.Node, list[ir.Node]] | None:
    """Find the convolution from ``source`` to ``value`` with layout operators that undo each other."""
    down = _climb(value)
    conv = (down[-1].inputs[0] if down else value).producer() if value is not None else None  # type: ignore
    if conv is None or not is_op(conv, "Conv"):
        return None
    up = [*_climb(conv.inputs[0])]
    for length in range(len(up), -1, -1):
        entry = up[length - 1].inputs[0] if length else conv.inputs[0]
        if entry is source and (not length or does_nothing([*down, *up[:length]])):
            return (conv, down) if length or not down else None
    return None


def _climb(value: ir.Value | None) -> list[ir.Node]:
    found: list[ir.Node] = []
    node = value.producer() if value is not None else None
    while node is not None and is_op(node, *LAYOUT):
        found.append(node)
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return found


def _why_not_aligned(conv: ir.Node) -> str:
    weights = constant(conv.inputs[1])
    if weights is None:
        return f"the weights of Conv {conv.name} are not constants"
    rank, groups = weights.ndim - 2, integer(conv, "group", 1)
    if weights.shape[0] != weights.shape[1] * groups:
        return f"Conv {conv.name} has another number of channels out than in"
    if set(integers(conv, "strides", [1] * rank)) != {1} or any(k % 2 == 0 for k in weights.shape[2:]):
        return f"Conv {conv.name} has a stride or an even kernel"
    reach = [
        d * (k - 1) // 2
        for d, k in zip(integers(conv, "dilations", [1] * rank), weights.shape[2:], strict=True)
    ]
    same = conv.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    if not same and integers(conv, "pads", [0] * 2 * rank) != reach * 2:
        return f"Conv {conv.name} is not padded by half its reach"
    return ""


def _with_identity(weights: Array) -> Array:
    made = float_array(weights)
    centre = tuple(k // 2 for k in weights.shape[2:])
    for output in range(weights.shape[0]):
        made[(output, output % weights.shape[1], *centre)] += 1
    return made.astype(weights.dtype)
