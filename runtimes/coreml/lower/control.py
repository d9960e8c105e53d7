"""If and Loop: MIL's ``cond`` and ``while_loop``, with the bodies lowered in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from ....export.artifact import Array
from .call import Call, Held, Unsupported, Var, dtype_of, rank_of, shape_of, variable
from .graph import lower_nodes


def body_of(c: Call, name: str) -> ir.Graph:
    """Give the graph that a node holds."""
    return c.node.attributes[name].as_graph()


def lower_body(c: Call, body: ir.Graph, inputs: Sequence[Held]) -> list[Held]:
    """Lower a body where the program stands, and give its outputs."""
    scope = c.scope.inner()
    scope.values.update(zip(body.inputs, inputs, strict=True))
    return lower_nodes(body, scope)


def choose(c: Call) -> Held:
    """Compute one of two bodies; a condition that is known now leaves only one of them."""
    condition = c.array(0)
    if condition is not None:
        name = "then_branch" if bool(condition.reshape(())) else "else_branch"
        return tuple(lower_body(c, body_of(c, name), ()))
    answer = c.mb.cond(
        pred=_scalar(c, c.var(0)),
        _true_fn=lambda: _fresh(c, lower_body(c, body_of(c, "then_branch"), ())),
        _false_fn=lambda: _fresh(c, lower_body(c, body_of(c, "else_branch"), ())),
    )
    return as_tuple(answer)


def as_tuple(answer: Any) -> tuple[Any, ...]:
    """Give one or several results as several."""
    return tuple(cast("Sequence[Any]", answer)) if isinstance(answer, list | tuple) else (answer,)


def _fresh(c: Call, outputs: Sequence[Held]) -> list[Var]:
    """Give variables that the block makes itself, as MIL wants the results of a block."""
    return [c.mb.identity(x=variable(held)) for held in outputs]


def _scalar(c: Call, condition: Var) -> Var:
    rank = rank_of(condition)
    if not rank:
        return condition
    number = c.mb.squeeze(x=c.mb.cast(x=condition, dtype="int32"), axes=list(range(rank)))
    return c.mb.cast(x=number, dtype="bool")


def loop(c: Call) -> Held:
    """Repeat a body a known number of times: written out, since then every step is plain operators.

    A body that may stop early, or repeats an unknown number of times, becomes a ``while_loop``; it may not
    gather an output of every step.
    """
    count, going = c.array(0), c.array(1)
    body = body_of(c, "body")
    carried = c.count() - 2
    if len(body.outputs) - 1 > carried:
        message = "a loop that gathers an output of every step; write it as a Scan"
        raise Unsupported(message)
    states = [c.held(2 + i) for i in range(carried)]
    if count is None or not _stays(body, going):
        return _while(c, body, states)
    for step in range(int(count.reshape(()))):
        states = lower_body(c, body, [np.array(step, np.int64), np.array(True), *states])[1:]
    return tuple(states)


def _stays(body: ir.Graph, going: Array | None) -> bool:
    """Say whether a loop surely goes on: its condition starts true, and the body hands it on."""
    if going is not None and not bool(going.reshape(())):
        return False
    value = body.outputs[0]
    while (node := value.producer()) is not None and node.op_type == "Identity":
        value = node.inputs[0] or value
    constant = ir.convenience.get_const_tensor(value)
    return value is body.inputs[1] or (constant is not None and bool(constant.numpy().reshape(())))


def _while(c: Call, body: ir.Graph, states: Sequence[Held]) -> Held:
    limit = np.int32(np.iinfo(np.int32).max) if c.held(0) is None else _as_count(c)
    going = np.array(True) if c.held(1) is None else c.held(1)
    first = [c.mb.identity(x=variable(np.zeros((), np.int32))), _truth(c, going)]
    first += [c.mb.identity(x=variable(state)) for state in states]

    def more(step: Var, go: Var, *_: Var) -> Var:
        return c.mb.logical_and(x=c.mb.less(x=step, y=limit), y=go)

    def again(step: Var, go: Var, *now: Var) -> list[Var]:
        after = lower_body(c, body, [step, go, *now])
        held = [variable(value) for value in after[1:]]
        _same(now, held)
        return [c.mb.add(x=step, y=np.int32(1)), _truth(c, after[0]), *held]

    return tuple(c.mb.while_loop(_cond=more, _body=again, loop_vars=tuple(first))[2:])


def _as_count(c: Call) -> Var:
    count = c.var(0)
    return c.mb.squeeze(x=count, axes=list(range(rank_of(count)))) if rank_of(count) else count


def _truth(c: Call, going: Held) -> Var:
    """Give a condition as a scalar that the loop may carry."""
    return c.mb.logical_not(x=c.mb.logical_not(x=_scalar(c, variable(going))))


def _same(before: Sequence[Var], after: Sequence[Var]) -> None:
    for old, new in zip(before, after, strict=True):
        if shape_of(old) != shape_of(new) or dtype_of(old) != dtype_of(new):
            message = "a loop whose state changes its shape"
            raise Unsupported(message)
