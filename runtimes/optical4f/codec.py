"""Frozen values to JSON and back: dataclasses, tuples, numbers and text."""

from __future__ import annotations

import types
import typing
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")


def to_json(value: object) -> Any:
    """Give a dataclass as dicts, lists, numbers, text and None."""
    return asdict(cast("Any", value))


def from_json(kind: type[T], data: Any) -> T:
    """Read a dataclass that ``to_json`` wrote.

    Args:
        kind: The dataclass.
        data: What JSON gave.

    Raises:
        TypeError: If a part is missing or of another kind.
        KeyError: Likewise.
        ValueError: Likewise.
    """
    return cast("T", _read(kind, data))


def _read(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        some = [one for one in typing.get_args(kind) if one is not type(None)]
        same = [one for one in some if isinstance(one, type) and isinstance(data, one)]
        return None if data is None else _read((same or some)[0], data)
    if origin is typing.Literal:
        return _literal(kind, data)
    if origin is tuple:
        return _tuple(typing.get_args(kind), data)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: _read(hints[field.name], data[field.name]) for field in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, tuple):
        return cast("Any", kind)(*data)
    if kind is float and isinstance(data, int):
        return float(data)
    if not isinstance(data, kind):
        message = f"expected {kind.__name__}, got {type(data).__name__}"
        raise TypeError(message)
    return data


def _literal(kind: Any, data: Any) -> Any:
    if data not in typing.get_args(kind):
        message = f"expected one of {', '.join(map(str, typing.get_args(kind)))}, got {type(data).__name__}"
        raise ValueError(message)
    return data


def _tuple(parts: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_read(parts[0], one) for one in data)
    if len(parts) != len(data):
        message = f"expected {len(parts)} entries, got {len(data)}"
        raise ValueError(message)
    return tuple(_read(part, one) for part, one in zip(parts, data, strict=True))
