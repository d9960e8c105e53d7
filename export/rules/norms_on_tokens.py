"""Let layer norms of a map, and the sums that feed them, see positions as one axis.

Before, with two free ends per block and every tensor of four axes::

    x = Add(a, b)                                     (batch, C, H, W)
    y = Transpose(x, [0, 2, 3, 1])                    (batch, H, W, C)
    z = LayerNormalization(y, axis=-1)

After::

    t = Add(Reshape(Transpose(a, [0, 2, 3, 1]), [-1, H W, C]), Reshape(Transpose(b, ...), ...))
    z = Reshape(LayerNormalization(t, axis=-1), [-1, H, W, C])
    x = Transpose(Reshape(t, [-1, H, W, C]), [0, 3, 1, 2])      for everyone else who reads it

OpenVINO keeps maps with the channels innermost, so a Transpose followed by a Reshape to three axes costs it
nothing, while a norm of four axes becomes several operators and a copy of the map. ``merge_transposes`` is
meant to follow: between one sum and the next all the layout operators cancel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..artifact import Refusal
from .graph import (
    add_constant,
    graph_of,
    input_of,
    integer,
    integers,
    new_node,
    nodes_of,
    producer,
    redirect,
    remove_unused,
    sizes,
)

_TO_LAST, _TO_MAP = [0, 2, 3, 1], [0, 3, 1, 2]


class NormsOnTokens(ir.passes.InPlacePass):
    """Give layer norms over the last of four axes an input of three."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the sums first, while their transposed readers still stand directly before the norms."""
        norms = [n for n in nodes_of(model, "LayerNormalization") if _over_last_of_four(n)]
        for norm in norms:
            grid = _grid(norm.inputs[0])
            if grid is None:
                reason = "its height, width or channels are not known ahead of time"
                self.refusals += (Refusal(norm.name or "", reason),)
                continue
            _sum_on_tokens(norm, grid)
            _norm_on_tokens(norm, grid)
            self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _over_last_of_four(norm: ir.Node) -> bool:
    shape = sizes(norm.inputs[0])
    alone = all(not output.uses() for output in norm.outputs[1:])
    return shape is not None and len(shape) == 4 and integer(norm, "axis", -1) in (-1, 3) and alone


def _grid(value: ir.Value | None) -> tuple[int, int, int] | None:
    """Give height, width and channels of (batch, H, W, C) when all three are known."""
    shape = sizes(value) or []
    height, width, channels = shape[1:]
    if isinstance(height, int) and isinstance(width, int) and isinstance(channels, int):
        return height, width, channels
    return None


def _sum_on_tokens(norm: ir.Node, grid: tuple[int, int, int]) -> None:
    """Where a sum of two maps reaches the norm through a Transpose, sum tokens instead."""
    view = producer(norm.inputs[0], "Transpose")
    total = producer(view.inputs[0], "Add") if view and integers(view, "perm", []) == _TO_LAST else None
    if total is None or sizes(total.inputs[0]) != sizes(total.inputs[1]):
        return
    name = total.name or "sum"
    parts: list[ir.Value] = []
    for index, value in enumerate(total.inputs):
        assert value is not None
        last = _transpose(value, _TO_LAST, before=total, name=f"{name}.last{index}")
        parts.append(_reshape(last, _tokens(grid), before=total, name=f"{name}.tokens{index}"))
    (tokens,) = new_node("Add", parts, before=total, name=f"{name}.on_tokens")
    spread = _reshape(tokens, [-1, *grid], before=total, name=f"{name}.spread")
    redirect(total.outputs[0], _transpose(spread, _TO_MAP, before=total, name=f"{name}.map"))
    remove_unused([total])


def _norm_on_tokens(norm: ir.Node, grid: tuple[int, int, int]) -> None:
    name = norm.name or "norm"
    source, scale, shift = norm.inputs[0], norm.inputs[1], input_of(norm, 2)
    assert source is not None
    tokens = _reshape(source, _tokens(grid), before=norm, name=f"{name}.tokens")
    facts = {"axis": -1, "epsilon": norm.attributes.get_float("epsilon", 1e-5)}
    inputs = [tokens, scale] if shift is None else [tokens, scale, shift]
    (normed,) = new_node(
        "LayerNormalization", inputs, before=norm, name=f"{name}.on_tokens", attributes=facts
    )
    redirect(norm.outputs[0], _reshape(normed, [-1, *grid], before=norm, name=f"{name}.spread"))
    remove_unused([norm])


def _tokens(grid: tuple[int, int, int]) -> list[int]:
    height, width, channels = grid
    return [-1, height * width, channels]


def _transpose(value: ir.Value, order: Sequence[int], *, before: ir.Node, name: str) -> ir.Value:
    (made,) = new_node("Transpose", [value], before=before, name=name, attributes={"perm": order})
    return made


def _reshape(value: ir.Value, target: Sequence[int], *, before: ir.Node, name: str) -> ir.Value:
    shape = add_constant(graph_of(before), f"{name}.shape", np.array(target, dtype=np.int64))
    (made,) = new_node("Reshape", [value, shape], before=before, name=name)
    return made
