"""Frozen values survive JSON, and what does not fit is refused."""

import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pytest

from fourfold.runtimes.optical4f.codec import from_json, to_json


class Pair(NamedTuple):
    a: int
    b: int


@dataclass(frozen=True)
class Inner:
    shape: tuple[int | str, ...]
    kind: Literal["x", "y"]
    maybe: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    pair: Pair
    size: tuple[int, int]
    value: float


VALUE = Outer((Inner(("batch", 3), "x"), Inner((), "y", 4)), Pair(1, 2), (3, 4), 2.0)


def test_a_value_survives_json() -> None:
    assert from_json(Outer, json.loads(json.dumps(to_json(VALUE)))) == VALUE


def test_a_whole_number_may_stand_for_a_float() -> None:
    assert from_json(Outer, {**to_json(VALUE), "value": 2}) == VALUE


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("value", "2", "expected float, got str"),
        ("size", [1], "expected 2 entries, got 1"),
        ("inner", [{"shape": [], "kind": "z", "maybe": None}], "expected one of x, y, got str"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, value: object, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        from_json(Outer, {**to_json(VALUE), key: value})
