"""From a plain typed Python function to an operator: its annotations say how arguments are handed to it.

    def softmax(x: Tensor, axis: int = -1) -> Tensor

takes a tensor and a number; whether the program gives the number as a constant or computes it makes no
difference. A parameter of type ``Context`` is handed the running evaluation instead of an argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from torch import Tensor

from .context import Context
from .values import List, Value

_T = TypeVar("_T")

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Bools = tuple[bool, ...]
Tensors = tuple[Tensor, ...]
Values = tuple[Value, ...]

Function = Callable[..., Any]
Convert = Callable[[Values], Any]
"""From the parts of one argument (mostly one) to what a function is handed."""


@dataclass(frozen=True)
class Signature:
    """What a function takes: how each argument is converted, and which must be given."""

    convert: Mapping[str, Convert]
    required: frozenset[str]
    context: str | None
    """Name of the parameter that is handed the running evaluation."""


@cache
def signature(function: Function) -> Signature:
    """Read the signature of an operator's function."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    convert = {
        name: _CONVERT[_without_none(hints[name])] for name in parameters if hints[name] is not Context
    }
    required = {name for name, p in parameters.items() if p.default is p.empty and hints[name] is not Context}
    context = next((name for name in parameters if hints[name] is Context), None)
    return Signature(convert, frozenset(required), context)


def _without_none(hint: Any) -> Any:
    if hint == Value or type(None) not in get_args(hint):
        return hint
    return next(part for part in get_args(hint) if part is not type(None))


def _single(parts: Values, wanted: type[_T]) -> _T:
    if len(parts) != 1 or not isinstance(parts[0], wanted):
        got = ", ".join(type(part).__name__ for part in parts)
        message = f"expected one value of type {wanted.__name__}, got {got}"
        raise TypeError(message)
    return parts[0]


def _tensors(parts: Values) -> Tensors:
    return tuple(_single((part,), Tensor) for part in parts)


def _flat(parts: Values) -> list[Any]:
    return [single for part in _tensors(parts) for single in cast("list[Any]", part.reshape(-1).tolist())]


def _one(parts: Values) -> Any:
    flat = _flat(parts)
    if len(flat) != 1:
        message = f"expected one number, got {len(flat)}"
        raise ValueError(message)
    return flat[0]


_CONVERT: dict[Any, Convert] = {
    Tensor: lambda parts: _single(parts, Tensor),
    Tensors: _tensors,
    int: lambda parts: int(_one(parts)),
    float: lambda parts: float(_one(parts)),
    bool: lambda parts: bool(_one(parts)),
    str: lambda parts: _single(parts, str),
    Ints: lambda parts: tuple(int(single) for single in _flat(parts)),
    Floats: lambda parts: tuple(float(single) for single in _flat(parts)),
    Bools: lambda parts: tuple(bool(single) for single in _flat(parts)),
    List: lambda parts: _single(parts, List),
    Value: lambda parts: parts[0],
    Values: lambda parts: parts,
}
