"""Replace a chain of operators that only move or regroup numbers by the shortest that does the same.

Before::

    y = Transpose(Transpose(x, [0, 2, 1]), [0, 2, 1])
    z = Reshape(Transpose(Reshape(k, [-1, 196, 8]), [0, 2, 1]), [-1, 4, 8, 196])  k: (batch, 4, 196, 8)
    p = Flatten(Transpose(v, [0, 2, 3, 1]))                                      v: (batch, 64, 1, 1)

After::

    y = x
    z = Transpose(k, [0, 1, 3, 2])
    p = Reshape(v, [-1, 64])

A chain of Transpose, Reshape, Flatten, Squeeze and Unsqueeze sends position to position. It is followed
with numbered positions for two sizes of every free dimension; when both agree that it is nothing, one Reshape
or one Transpose, it is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import (
    add_constant,
    can_redirect,
    constant,
    graph_of,
    input_of,
    integer,
    integers,
    is_op,
    new_node,
    redirect,
    remove_unused,
    sizes,
    still_there,
)

LAYOUT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")

_LONGEST = 8
_MAX_POSITIONS = 2**22
"""A chain over a larger tensor is left alone: numbering its positions would take too long."""


class MergeTransposes(ir.passes.InPlacePass):
    """Shorten chains of layout operators."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Shorten every chain, its end first, so that the longest is tried before its parts."""
        for end in reversed([node for node in model.graph if is_op(node, *LAYOUT)]):
            if still_there(end):
                self.changed += self._shorten(end)
        return ir.passes.PassResult(model, self.changed > 0)

    def _shorten(self, end: ir.Node) -> int:
        chain = list(_chain(end))
        for length in range(len(chain), 0, -1):
            part = chain[:length]
            found = _shortest(part)
            if found is not None and _replace(part, *found):
                return 1
        if chain and _positions(chain[-1:]) is None:
            self.refusals += (Refusal(end.name or "", "its shape or axes are not known ahead of time"),)
        return 0


def _chain(end: ir.Node) -> Iterator[ir.Node]:
    """Give the layout operators that lead to ``end``, itself first."""
    node: ir.Node | None = end
    for _ in range(_LONGEST):
        if node is None or not is_op(node, *LAYOUT):
            return
        yield node
        source = node.inputs[0]
        node = source.producer() if source is not None else None


def does_nothing(chain: Sequence[ir.Node]) -> bool:
    """Say whether layout operators, the last first, give back what they were given.

    The first may read something else than the second gives, as around an operator that keeps the layout.
    """
    return _shortest(chain) == ("", [])


def _shortest(chain: Sequence[ir.Node]) -> tuple[str, list[int]] | None:
    """Say what one operator does the same as the chain: ("", []) for nothing, else its name and argument."""
    found = _positions(chain)
    if found is None:
        return None
    before, after = found
    if all(b.shape == a.shape and np.array_equal(b, a) for b, a in zip(before, after, strict=True)):
        return "", []
    if all(np.array_equal(b.ravel(), a.ravel()) for b, a in zip(before, after, strict=True)):
        target = _target([a.shape for a in after])
        single = len(chain) == 1 and not is_op(chain[0], "Transpose")
        return None if single or target is None else ("Reshape", target)
    orders = {_order(b, a) for b, a in zip(before, after, strict=True)}
    order = orders.pop()
    if orders or order is None or len(chain) == 1:
        return None
    return "Transpose", list(order)


def _positions(chain: Sequence[ir.Node]) -> tuple[list[Array], list[Array]] | None:
    """Number the positions of what enters the chain, and follow them to its end, for two sizes."""
    dims = sizes(chain[-1].inputs[0])
    if dims is None or any(d is None for d in dims):
        return None
    before: list[Array] = []
    after: list[Array] = []
    for first in (2, 5):
        names = sorted({d for d in dims if isinstance(d, str)})
        shape = [first + names.index(d) if isinstance(d, str) else d for d in dims if d is not None]
        if math.prod(shape) > _MAX_POSITIONS:
            return None
        start = end = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
        for node in reversed(chain):
            moved = _moved(node, end)
            if moved is None:
                return None
            end = moved
        before.append(start)
        after.append(end)
    return before, after


def _moved(node: ir.Node, array: Array) -> Array | None:
    """Apply one layout operator to an array of any shape."""
    operand = constant(input_of(node, 1))
    if is_op(node, "Transpose"):
        return array.transpose(integers(node, "perm", range(array.ndim)[::-1]))
    if is_op(node, "Flatten"):
        axis = integer(node, "axis", 1)
        return array.reshape(math.prod(array.shape[:axis]), -1) if axis >= 0 else None
    if is_op(node, "Reshape"):
        return _reshaped(node, array, operand)
    axes = operand.tolist() if operand is not None else integers(node, "axes", ())
    if input_of(node, 1) is not None and operand is None:
        return None
    if is_op(node, "Unsqueeze"):
        return np.expand_dims(array, tuple(axes))
    return array.squeeze(tuple(axes)) if axes else None


def _reshaped(node: ir.Node, array: Array, target: Array | None) -> Array | None:
    if target is None:
        return None
    wanted = target.tolist()
    if not integer(node, "allowzero", 0):
        wanted = [array.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    try:
        return array.reshape(wanted)
    except ValueError:
        # The target only fits one size of the free dimension.
        return None


def _order(before: Array, after: Array) -> tuple[int, ...] | None:
    """Give the permutation of axes that takes ``before`` to ``after``, or None."""
    if sorted(before.shape) != sorted(after.shape):
        return None
    left = list(range(before.ndim))
    order: list[int] = []
    for axis, size in enumerate(after.shape):
        step = np.take(after, 1, axis).flat[0] - after.flat[0] if size > 1 else None
        fits = [i for i in left if before.shape[i] == size and (size == 1 or _step(before, i) == step)]
        if not fits:
            return None
        left.remove(fits[0])
        order.append(fits[0])
    return tuple(order) if np.array_equal(before.transpose(order), after) else None


def _step(array: Array, axis: int) -> int:
    return math.prod(array.shape[axis + 1 :])


def _target(shapes: Sequence[tuple[int, ...]]) -> list[int] | None:
    """Write two shapes of different sizes as one target, with -1 where they differ."""
    target = [a if a == b else -1 for a, b in zip(*shapes, strict=True)]
    return target if target.count(-1) <= 1 else None


def _replace(chain: Sequence[ir.Node], operator: str, argument: list[int]) -> bool:
    end, source = chain[0], chain[-1].inputs[0]
    old = end.outputs[0]
    assert source is not None
    name = f"{end.name}.merged"
    if not operator:
        if not can_redirect(old, source):
            return False
        redirect(old, source)
    elif operator == "Reshape":
        target = add_constant(graph_of(end), f"{name}.shape", np.array(argument, dtype=np.int64))
        redirect(old, new_node("Reshape", [source, target], before=end, name=name)[0])
    else:
        attributes = {"perm": argument}
        redirect(old, new_node("Transpose", [source], before=end, name=name, attributes=attributes)[0])
    remove_unused(chain)
    return True
