"""Scan: a linear recurrence is solved in blocks, any other body becomes a ``while_loop``.

Axis letters: T steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .call import Call, Held, Scope, Unsupported, Var, known, rank_of, shape_of, size, variable
from .control import body_of, lower_body
from .graph import lower_node, tensor_of
from .layout import broadcast
from .recurrence import Recurrence, find, flat, solve
from .sizes import reshape, vector

_OWN_BATCH_UNTIL = 9
"""First opset whose Scan has no axis for the batch."""


def scan(c: Call) -> Held:
    """Walk along the first axis of some inputs, carrying a state."""
    if c.scope.opset < _OWN_BATCH_UNTIL:
        message = "a scan with a batch of its own, as opset 8 has it"
        raise Unsupported(message)
    body, taken = body_of(c, "body"), c.int("num_scan_inputs")
    states = c.count() - taken
    if any(c.ints("scan_input_axes") or ()) or any(c.ints("scan_output_axes") or ()):
        message = "a scan along another axis than the first"
        raise Unsupported(message)
    first = [c.held(i) for i in range(states)]
    inputs = [
        _directed(c, c.var(states + i), _directions(c, "scan_input_directions", i)) for i in range(taken)
    ]
    if taken == 0:
        message = "a scan without inputs"
        raise Unsupported(message)
    found = find(body, states)
    ends, outputs = _blocks(c, body, found, first[0], inputs) if found else _loop(c, body, first, inputs)
    turned = [_directed(c, o, _directions(c, "scan_output_directions", i)) for i, o in enumerate(outputs)]
    return (*ends, *turned)


def _directions(c: Call, name: str, index: int) -> bool:
    """Say whether an input or output is walked backwards."""
    found = c.ints(name)
    return bool(found and found[index])


def _directed(c: Call, x: Var, backwards: bool) -> Var:
    return c.mb.reverse(x=x, axes=[0]) if backwards else x


# A linear recurrence.


def _blocks(
    c: Call, body: ir.Graph, found: Recurrence, first: Held, inputs: Sequence[Var]
) -> tuple[list[Held], list[Held]]:
    """Compute what does not need the state for all steps, then the states, then the answers."""
    stacked = _Stacked(c, body, inputs)
    stacked.lower(found.before)
    start = variable(first)
    dims = shape_of(start)
    width = math.prod(dims)
    a, b = (stacked.whole(value, dims, start) for value in (found.factor, found.summand))
    h = solve(c, flat(c, a), flat(c, b), reshape(c, start, [1, width]))
    steps = size(h, 0, "the steps of a scan")
    whole = reshape(c, h, [steps, *dims], source=(start,))
    stacked.scope.values[found.state] = whole
    stacked.steps.add(found.state)
    stacked.lower(found.after)
    last = c.mb.slice_by_index(
        x=whole, begin=[steps - 1] + [0] * len(dims), end=[steps] + [0] * len(dims),
        end_mask=[False] + [True] * len(dims), squeeze_mask=[True] + [False] * len(dims),
    )  # fmt: skip
    return [last], [stacked.all_steps(value) for value in body.outputs[1:]]


class _Stacked:
    """A body whose values hold all steps along a new first axis, where they differ between steps."""

    def __init__(self, c: Call, body: ir.Graph, inputs: Sequence[Var]) -> None:
        self.c = c
        self.scope: Scope = c.scope.inner()
        self.steps: set[ir.Value] = set()
        self.count = size(inputs[0], 0, "the steps of a scan")

        self.scope.values.update({v: tensor_of(v) for v in body.initializers.values()})
        for value, held in zip(body.inputs[1:], inputs, strict=True):
            self.scope.values[value] = held
            self.steps.add(value)

    def lower(self, nodes: Sequence[ir.Node]) -> None:
        """Lower nodes in order."""
        for node in nodes:
            if not any(value in self.steps for value in node.inputs):
                (self.scope.values[node.outputs[0]],) = lower_node(node, self.scope)
                continue
            self._lower_stacked(node)
            self.steps.update(node.outputs)

    def _lower_stacked(self, node: ir.Node) -> None:
        """Lower one node with the steps as a further first axis: ranks and axes move by one."""
        around = self.scope.inner()
        rank = max(self._rank(value) for value in node.inputs if value is not None)
        if node.op_type in ("Unsqueeze", "Squeeze") or node.op_type.startswith("Reduce"):
            self._move_axes(node, around)
        else:
            for value in node.inputs:
                if value is not None and value in self.steps:
                    around.values[value] = self._raised(value, rank)
        (self.scope.values[node.outputs[0]],) = lower_node(node, around)

    def _rank(self, value: ir.Value) -> int:
        """Give the number of dimensions of one step."""
        return rank_of(self.scope.values[value]) - (value in self.steps)

    def _raised(self, value: ir.Value, rank: int) -> Held:
        """Give a value of fewer dimensions ones after the steps, as broadcasting wants it."""
        held, missing = self.scope.values[value], rank - self._rank(value)
        return self.c.mb.expand_dims(x=held, axes=list(range(1, 1 + missing))) if missing else held

    def _move_axes(self, node: ir.Node, around: Scope) -> None:
        data, axes = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        array = known(around.values[axes]) if axes is not None else None
        if data is None or axes is None or array is None:
            message = "a scan that reduces all axes of a step"
            raise Unsupported(message)
        rank = self._rank(data) + (len(array) if node.op_type == "Unsqueeze" else 0)
        around.values[axes] = np.asarray(array) % rank + 1

    def whole(self, value: ir.Value, dims: Sequence[object], start: Var) -> Var:
        """Give a value for all steps, repeated to the shape of the state."""
        held = variable(self._raised(value, len(dims)) if value in self.steps else self.scope.values[value])
        wanted = [self.count, *dims]
        if list(shape_of(held)) == wanted:
            return held
        return broadcast(self.c, held, wanted, vector(self.c, wanted, (start,)))

    def all_steps(self, value: ir.Value) -> Held:
        """Give an output of the body for all steps, also one that is the same in each."""
        held = self.scope.values[value]
        if value in self.steps:
            return held
        once = self.c.mb.expand_dims(x=variable(held), axes=[0])
        return self.c.mb.tile(x=once, reps=[self.count] + [1] * (rank_of(once) - 1))


# Any other body.


def _loop(
    c: Call, body: ir.Graph, first: Sequence[Held], inputs: Sequence[Var]
) -> tuple[list[Held], list[Held]]:
    """Take the first step in front of the loop, which shows the shapes that the loop gathers."""
    steps, states = size(inputs[0], 0, "the steps of a scan"), len(first)
    answer = lower_body(c, body, [*first, *(_step(c, x, np.int32(0)) for x in inputs)])
    if steps == 1:
        return answer[:states], [c.mb.expand_dims(x=variable(o), axes=[0]) for o in answer[states:]]
    gathered = [_room(c, variable(value), steps) for value in answer[states:]]
    carried = [c.mb.identity(x=variable(np.ones((), np.int32)))]
    carried += [c.mb.identity(x=variable(value)) for value in answer[:states]]

    def more(step: Var, *_: Var) -> Var:
        return c.mb.less(x=step, y=np.int32(steps))

    def again(step: Var, *now: Var) -> list[Var]:
        after = lower_body(c, body, [*now[:states], *(_step(c, x, step) for x in inputs)])
        outs = [
            _written(c, room, step, variable(o)) for room, o in zip(now[states:], after[states:], strict=True)
        ]
        return [c.mb.add(x=step, y=np.int32(1)), *(variable(value) for value in after[:states]), *outs]

    ends = c.mb.while_loop(_cond=more, _body=again, loop_vars=(*carried, *gathered))
    return list(ends[1 : 1 + states]), list(ends[1 + states :])


def _step(c: Call, x: Var, step: Held) -> Var:
    """Give one step of an input."""
    return c.mb.gather(x=x, indices=step, axis=0)


def _room(c: Call, value: Var, steps: int) -> Var:
    """Make room for all steps, filled with the first."""
    return c.mb.tile(x=c.mb.expand_dims(x=value, axes=[0]), reps=[steps] + [1] * rank_of(value))


def _written(c: Call, room: Var, step: Var, value: Var) -> Var:
    return c.mb.scatter(
        data=room,
        indices=c.mb.expand_dims(x=step, axes=[0]),
        updates=c.mb.expand_dims(x=value, axes=[0]),
        axis=0,
        mode="update",
    )
