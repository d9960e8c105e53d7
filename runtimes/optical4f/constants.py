"""What a graph fixes before it sees data: constant weights, however an exporter wrote them, and signs."""

from __future__ import annotations

import onnx_ir as ir

from ...export.artifact import Array
from ...export.rules.graph import constant, input_of, is_op
from ..reference import evaluate

_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus", "Sqrt")
_KEEP_SIGN = (
    *(
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Gather",
        "Expand",
        "Tile",
        "Identity",
    ),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum"),
    *("Cast", "Split", "DepthToSpace", "SpaceToDepth"),
)
"""Never negative when their first input is not."""
_KEEP_SIGN_OF_ALL = ("Add", "Mul", "Max", "Concat", "Sum")
_LARGEST_FOLD = 10_000
"""Nodes above a value beyond which it is not looked at whether they are all constant."""


def constant_of(value: ir.Value | None) -> Array | None:
    """Give the array behind a value that no run can change; None for everything else.

    A weight that an exporter wrote as Expand, Tile, Reshape, Concat... of constants is such a value too.
    """
    if value is None:
        return None
    if (known := constant(value)) is not None:
        return known
    if value.producer() is None or not _only_constants(value):
        return None
    source = value.graph
    assert source is not None
    alone = ir.convenience.extract(source, [], [value])
    answers = evaluate(ir.Model(alone, ir_version=10))({})
    return answers[str(value.name)]


def _only_constants(value: ir.Value) -> bool:
    waiting, seen = [value], {value}
    while waiting:
        one = waiting.pop()
        node = one.producer()
        if node is None:
            if constant(one) is None:
                return False
            continue
        if any(isinstance(a.value, ir.Graph) for a in node.attributes.values()) or len(seen) > _LARGEST_FOLD:
            return False
        fresh = [v for v in node.inputs if v is not None and v not in seen]
        waiting.extend(fresh)
        seen.update(fresh)
    return True


def never_negative(value: ir.Value | None) -> bool:
    """Say whether the graph itself shows that a value has no negative number.

    What only the data knows (a picture without negative pixels) counts as signed.
    """
    if value is None:
        return False
    if (known := constant(value)) is not None:
        return bool((known >= 0).all())
    node = value.producer()
    if node is None:
        return False
    if is_op(node, *_NEVER_NEGATIVE):
        return True
    if is_op(node, "Clip"):
        low = constant(input_of(node, 1))
        return low is not None and float(low) >= 0
    if is_op(node, *_KEEP_SIGN):
        return never_negative(node.inputs[0])
    return is_op(node, *_KEEP_SIGN_OF_ALL) and all(never_negative(v) for v in node.inputs)
