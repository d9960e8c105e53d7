"""The body of a Scan as a linear recurrence: everything else is computed for all steps at once.

``h[t] = h[t - 1] * a[t] + b[t]`` with ``a`` and ``b`` free of the state, and any answers made from ``h[t]``.
The state is found in blocks: of each block the state as if it had begun with zero, and the product of its
factors up to every step; then the states that blocks begin with are a recurrence over blocks, and
``h = within + product * before``. With factors up to one, as a selective scan has them, nothing overflows
that did not before.

Axis letters: T steps, N blocks, L steps of a block, F numbers of a state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from .call import Call, Var, like, rank_of, shape_of, size
from .sizes import reshape

STEPWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Exp", "Log", "Sqrt", "Neg", "Abs", "Sigmoid", "Tanh", "Relu", "Softplus",
    "Clip",
     "Identity", "Cast", "Min", "Max", "Pow", "Reciprocal"}
)  # fmt: skip
"""Operators that compute each number by itself, so that steps may be stacked."""
_REDUCING = frozenset({"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"})
_SHORT = 12
"""Steps up to which a recurrence is written out."""
_BLOCK = 16


@dataclass(frozen=True)
class Recurrence:
    """One state, its factor and its summand, and the nodes before and after it."""

    before: tuple[ir.Node, ...]
    factor: ir.Value
    summand: ir.Value
    state: ir.Value
    """The state after a step."""
    after: tuple[ir.Node, ...]


def find(body: ir.Graph, states: int) -> Recurrence | None:
    """Read a body as a linear recurrence; None where it is something else."""
    if states != 1 or not all(_stackable(node) for node in body):
        return None
    old, new = body.inputs[0], body.outputs[0]
    while (copy := new.producer()) is not None and copy.op_type == "Identity" and copy.inputs[0] is not None:
        new = copy.inputs[0]
    found = _sum_of_product(old, new)
    if found is None:
        return None
    product, factor, summand = found
    late = _reached_from(old)
    if factor.producer() in late or summand.producer() in late or len(old.uses()) != 1:
        return None
    core = {product, new.producer()}
    return Recurrence(
        tuple(node for node in body if node not in late),
        factor,
        summand,
        new,
        tuple(node for node in body if node in late and node not in core),
    )


def _stackable(node: ir.Node) -> bool:
    if node.domain:
        return False
    if node.op_type in STEPWISE | {"Constant"}:
        return True
    known = len(node.inputs) < 2 or node.inputs[1] is None or node.inputs[1].is_initializer()
    return node.op_type in _REDUCING | {"Unsqueeze", "Squeeze"} and known


def _sum_of_product(old: ir.Value, new: ir.Value) -> tuple[ir.Node, ir.Value, ir.Value] | None:
    """Match ``new = old * factor + summand`` in any order of the operands."""
    total = new.producer()
    if total is None or total.op_type != "Add":
        return None
    for product_value, summand in (total.inputs, total.inputs[::-1]):
        product = product_value.producer() if product_value is not None else None
        if product is None or product.op_type != "Mul" or old not in product.inputs or summand is None:
            continue
        factor = product.inputs[1] if product.inputs[0] is old else product.inputs[0]
        if factor is not None and factor is not old and summand is not old:
            return product, factor, summand
    return None


def _reached_from(value: ir.Value) -> set[ir.Node]:
    found: set[ir.Node] = set()
    waiting = [use.node for use in value.uses()]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [use.node for output in node.outputs for use in output.uses()]
    return found


def solve(c: Call, factor: Var, summand: Var, first: Var) -> Var:
    """Give the state after every step.

    Args:
        c: The node.
        factor: a, of (T, F).
        summand: b, of (T, F).
        first: The state before, of (1, F).

    Returns:
        h, of (T, F).
    """
    steps = size(factor, 0, "the steps of a scan")
    if steps <= _SHORT:
        return _one_by_one(c, factor, summand, first)
    length = _block_length(steps)
    blocks = -(-steps // length)
    factor, summand = _filled(c, factor, blocks * length, 1), _filled(c, summand, blocks * length, 0)
    a, b = (_split(c, part, blocks, length) for part in (factor, summand))
    within, product = [b[0]], [a[0]]
    for step in range(1, length):
        within.append(c.mb.add(x=c.mb.mul(x=within[-1], y=a[step]), y=b[step]))
        product.append(c.mb.mul(x=product[-1], y=a[step]))
    ends = solve(c, product[-1], within[-1], first)
    begins = first
    if blocks > 1:
        earlier = c.mb.slice_by_index(x=ends, begin=[0, 0], end=[blocks - 1, 0], end_mask=[False, True])
        begins = c.mb.concat(values=[first, earlier], axis=0)
    whole = [c.mb.add(x=w, y=c.mb.mul(x=p, y=begins)) for w, p in zip(within, product, strict=True)]
    stacked = reshape(
        c, c.mb.stack(values=whole, axis=1), [blocks * length, _width(factor)], source=(factor,)
    )
    if blocks * length == steps:
        return stacked
    return c.mb.slice_by_index(x=stacked, begin=[0, 0], end=[steps, 0], end_mask=[False, True])


def _one_by_one(c: Call, factor: Var, summand: Var, first: Var) -> Var:
    """Compute a few steps one after the other."""
    steps = size(factor, 0, "the steps of a scan")
    if steps == 1:
        return c.mb.add(x=c.mb.mul(x=first, y=factor), y=summand)
    a, b = (c.mb.split(x=part, num_splits=steps, axis=0) for part in (factor, summand))
    states, state = [], first
    for step in range(steps):
        state = c.mb.add(x=c.mb.mul(x=state, y=a[step]), y=b[step])
        states.append(state)
    return c.mb.concat(values=states, axis=0)


@cache
def _block_length(steps: int) -> int:
    """Choose a length that divides the steps, or one that leaves few to be filled in."""
    dividing = [length for length in range(4, _BLOCK + 1) if steps % length == 0]
    return max(dividing) if dividing else min(_BLOCK, math.isqrt(steps))


def _filled(c: Call, part: Var, steps: int, value: float) -> Var:
    """Fill up with steps that leave the state as it is."""
    short = steps - size(part, 0, "the steps of a scan")
    if not short:
        return part
    return c.mb.pad(
        x=part, pad=np.array([0, short, 0, 0], np.int32), mode="constant", constant_val=like(part, value)
    )


def _split(c: Call, part: Var, blocks: int, length: int) -> list[Var]:
    """Give the steps at each place of a block: L variables of (N, F)."""
    cut = reshape(c, part, [blocks, length, _width(part)])
    return [c.mb.squeeze(x=one, axes=[1]) for one in c.mb.split(x=cut, num_splits=length, axis=1)]


def _width(part: Var) -> Any:
    return shape_of(part)[1]


def flat(c: Call, x: Var) -> Var:
    """Bring (T, ...) to (T, F)."""
    if rank_of(x) == 2:
        return x
    return reshape(c, x, [shape_of(x)[0], math.prod(shape_of(x)[1:])])
