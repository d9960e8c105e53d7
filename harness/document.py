"""Values to JSON and back, by the type hints of their dataclasses; no class is known here by its fields.

JSON has no words for NaN and infinity, so those floats are written as the strings of ``_SPECIAL``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import UsageError
from ..export.parity import Parity
from .result import SCHEMA, Report

T = TypeVar("T")

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# ``Step`` names Parity only while types are checked, so its hints do not resolve without this.
_NAMES = {"Parity": Parity}


def to_json(report: Report) -> str:
    """Give the text of report.json; equal reports give equal text."""
    return dump(report)


def from_json(text: str, *, name: str = "report.json") -> Report:
    """Read a report back.

    Args:
        text: What ``to_json`` gave.
        name: What the document is called in errors.

    Raises:
        UsageError: If the text is not a report, or one of a newer schema.
    """
    return load(text, Report, schema=SCHEMA, name=name)


def dump(value: object) -> str:
    """Give a dataclass as indented JSON, keys in the order of its fields."""
    return json.dumps(encode(value), indent=1, allow_nan=False) + "\n"


def load(text: str, kind: type[T], *, schema: int, name: str) -> T:
    """Read a dataclass that has a ``schema`` field.

    Args:
        text: What ``dump`` gave.
        kind: The dataclass.
        schema: The newest schema that is understood.
        name: What the document is called in errors.

    Raises:
        UsageError: If the text does not fit ``kind``, or its schema is newer.
    """
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected JSON in {name}, got {error}; make the bundle again") from error
    found = _object(data, name).get("schema")
    if not isinstance(found, int) or isinstance(found, bool):
        raise UsageError(f"expected a schema number in {name}, got {found!r}; make the bundle again")
    if found > schema:
        raise UsageError(
            f"expected schema {schema} or older in {name}, got {found} from a newer fourfold; update fourfold"
        )
    return cast(T, decode(kind, data, name))


def encode(value: object) -> object:
    """Turn dataclasses, mappings, tuples, sets of names and numbers into what ``json`` writes."""
    if isinstance(value, np.generic):
        return encode(cast(object, value.item()))
    if isinstance(value, float) and not math.isfinite(value):
        return next(word for word, special in _SPECIAL.items() if repr(special) == repr(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {key: encode(item) for key, item in items}
    if isinstance(value, tuple):
        return [encode(item) for item in cast("tuple[object, ...]", value)]
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    raise TypeError(f"expected a value that JSON can hold, got {type(value).__name__}; add it to encode")


def decode(hint: Any, data: object, where: str) -> object:
    """Turn parsed JSON into a value of a type hint, strictly.

    Args:
        hint: A dataclass, a union, a literal, a tuple, a mapping, or a plain type.
        data: What ``json`` read.
        where: Path of the value inside its document, for errors.

    Raises:
        UsageError: If the data does not fit the hint.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(inner, data, where)
    if origin is Literal:
        if data in inner and not isinstance(data, bool):
            return data
        raise _misfit(where, " or ".join(repr(i) for i in inner), data)
    if origin is tuple:
        return _decode_tuple(inner, data, where)
    if origin is Mapping:
        entries = _object(data, where)
        return {key: decode(inner[1], item, f"{where}.{key}") for key, item in entries.items()}
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(cast("type[object]", hint), data, where)
    return _decode_plain(hint, data, where)


def _decode_dataclass(kind: type[object], data: object, where: str) -> object:
    entries = _object(data, where)
    fields = {f.name: f for f in dataclasses.fields(cast(Any, kind))}
    unknown = sorted(entries.keys() - fields.keys())
    if unknown:
        raise _misfit(where, f"only the keys of {kind.__name__}", unknown)
    needed = {
        n
        for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    absent = sorted(needed - entries.keys())
    if absent:
        raise _misfit(where, f"the keys {', '.join(absent)} of {kind.__name__}", sorted(entries))
    hints = get_type_hints(kind, localns=_NAMES)
    return kind(**{key: decode(hints[key], item, f"{where}.{key}") for key, item in entries.items()})


def _decode_union(choices: tuple[Any, ...], data: object, where: str) -> object:
    for choice in choices:
        try:
            return decode(choice, data, where)
        except UsageError:
            if len(choices) == 2 and type(None) in choices and choice is not type(None) and data is not None:
                raise  # the one real choice knows best what does not fit
    raise _misfit(where, " or ".join(getattr(c, "__name__", str(c)) for c in choices), data)


def _decode_tuple(inner: tuple[Any, ...], data: object, where: str) -> tuple[object, ...]:
    if not isinstance(data, list):
        raise _misfit(where, "a list", data)
    items = cast("list[object]", data)
    kinds = (inner[0],) * len(items) if inner[-1] is Ellipsis else inner
    if len(kinds) != len(items):
        raise _misfit(where, f"{len(kinds)} entries", items)
    pairs = zip(kinds, items, strict=True)
    return tuple(decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))


def _decode_plain(kind: Any, data: object, where: str) -> object:
    if kind is float:
        if isinstance(data, str) and data in _SPECIAL:
            return _SPECIAL[data]
        largest = sys.float_info.max  # compared, since float() of a huge int overflows
        if isinstance(data, int | float) and not isinstance(data, bool) and -largest <= data <= largest:
            return float(data)
    elif isinstance(data, kind) and (kind is bool or not isinstance(data, bool)):
        return data
    raise _misfit(where, getattr(kind, "__name__", str(kind)), data)


def _object(data: object, where: str) -> dict[str, object]:
    if not isinstance(data, dict):
        raise _misfit(where, "an object", data)
    return cast("dict[str, object]", data)


def _misfit(where: str, expected: str, data: object) -> UsageError:
    shown = repr(data)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return UsageError(f"expected {expected} at {where}, got {shown}; make the bundle again")
