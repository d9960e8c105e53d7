"""What a program computes, and in which precision: counted once, when it is saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from .lower.call import dtype_of

_FLOATS = {"float32": "fp32", "float16": "fp16"}
_IN_INTEGERS = frozenset(
    {"conv", "conv_transpose", "linear", "matmul", "add", "avg_pool", "max_pool", "reduce_mean"}
)
"""Operators that compute in integers between ``dequantize`` and ``quantize``."""
_STORED = ("const", "constexpr_")

OTHER = "other"
"""Precision of an operator that computes no numbers of the network: shapes, indices, truth values."""

Entry = tuple[str, str, int]
"""Kind of operator, precision, and how many there are."""


def account(program: Any) -> list[Entry]:
    """Count the operators of a program, those of loops and branches included."""
    counts = Counter((op.op_type, precision(op)) for op in _operations(program.functions["main"]))
    return [(kind, what, count) for (kind, what), count in counts.most_common()]


def _operations(block: Any) -> Iterable[Any]:
    for operation in block.operations:
        if not operation.op_type.startswith(_STORED):
            yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def precision(operation: Any) -> str:
    """Say what an operator computes in; a conversion to or from integers is float arithmetic."""
    if operation.op_type == "quantize":
        return _float(operation.input)
    if operation.op_type in _IN_INTEGERS and _from_integers(operation):
        return "int8"
    return _float(operation.outputs[0])


def _float(var: Any) -> str:
    try:
        return _FLOATS.get(dtype_of(var).name, OTHER)
    except (TypeError, AttributeError):  # a list, a string
        return OTHER


def _from_integers(operation: Any) -> bool:
    """Say whether everything that an operator multiplies or adds was integers right before."""
    names = ("weight",) if operation.op_type in ("conv", "conv_transpose", "linear") else ("y",)
    values = [operation.inputs[name] for name in ("x", *names) if name in operation.inputs]
    return all(value.op is not None and _restores(value.op.op_type) for value in values)


def _restores(kind: str) -> bool:
    return kind == "dequantize" or kind in ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")
