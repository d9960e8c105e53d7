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
from typing import Any, cast, get_args, get_type_hints

import torch
from torch import Tensor

from .context import Context
from .values import Value

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Bools = tuple[bool, ...]
Tensors = tuple[Tensor, ...]
List = tuple[Value, ...]
"""A MIL list, or values of any kind."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Signature:
    """What a function takes: how each argument is converted, and which must be given."""

    convert: Mapping[str, Callable[[Value], Any]]
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
    kept = [part for part in get_args(hint) if part is not type(None)]
    return kept[0] if type(None) in get_args(hint) else hint


def _tensor(value: Value) -> Tensor:
    if isinstance(value, tuple) and len(value) == 1:
        return _tensor(value[0])
    if not isinstance(value, Tensor):
        message = f"expected a tensor, got a {type(value).__name__}"
        raise TypeError(message)
    return value


def _tensors(value: Value) -> Tensors:
    return tuple(_tensor(part) for part in value) if isinstance(value, tuple) else (_tensor(value),)


def _flat(value: Value) -> list[Any]:
    if isinstance(value, tuple):
        return [single for part in value for single in _flat(part)]
    return cast("list[Any]", _tensor(value).reshape(-1).tolist())


def _one(value: Value) -> Any:
    flat = _flat(value)
    if len(flat) != 1:
        message = f"expected one number, got {len(flat)}"
        raise ValueError(message)
    return flat[0]


def _text(value: Value) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        return _text(value[0])
    if not isinstance(value, str):
        message = f"expected a string, got a {type(value).__name__}"
        raise TypeError(message)
    return value


def _items(value: Value) -> List:
    return value if isinstance(value, tuple) else (value,)


_CONVERT: dict[Any, Callable[[Value], Any]] = {
    Tensor: _tensor,
    Tensors: _tensors,
    int: lambda value: int(_one(value)),
    float: lambda value: float(_one(value)),
    bool: lambda value: bool(_one(value)),
    str: _text,
    Ints: lambda value: tuple(int(single) for single in _flat(value)),
    Floats: lambda value: tuple(float(single) for single in _flat(value)),
    Bools: lambda value: tuple(bool(single) for single in _flat(value)),
    List: _items,
    Value: lambda value: value,
}


def scalar(value: Tensor | float, like: Tensor) -> Tensor:
    """Make a number a tensor of the type of another."""
    return torch.as_tensor(value, dtype=like.dtype)
