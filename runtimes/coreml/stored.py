"""In which form every weight of a compressed package is stored: decided before, told afterwards.

::

    int8   w (O, I, ...)  ->  scale (O, 1, ...) * q        q of 8 bits
    int4   w (O, I, ...)  ->  scale (O, I / b, ...) * q    q of 4 bits, b = 32 or 16 input channels

Axis letters: O output channels, I input channels, b of a block. Scales are symmetric: zero stays zero.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import Any

from ...errors import RunError
from ...export.artifact import Compression
from ..sessions import reason

BLOCKS = (32, 16)
"""Sizes of blocks, the best first: a scale of 16 bits adds half a bit or one to every value."""

LEAST = 2048
"""Weights with no more values stay as they are: there is little to save."""

FACT = "fourfold.weights"
"""Under which a package keeps this list."""

Use = tuple[str, str]
"""An operator, and which of its arguments a weight is."""

_INPUT_AXIS: dict[Use, int] = {
    ("conv", "weight"): 1,
    ("conv_transpose", "weight"): 0,
    ("linear", "weight"): 1,
    ("matmul", "y"): -2,
    ("matmul", "x"): -1,
    ("gather", "x"): 1,
}
"""Where weights are compressed, and which axis holds the input channels."""


@dataclass(frozen=True)
class Form:
    """How one weight is to be stored."""

    bits: int
    block: int = 0
    """Input channels under one scale; 0 for all of them."""

    def __str__(self) -> str:
        return f"int{self.bits} in blocks of {self.block}" if self.block else f"int{self.bits} per channel"


@dataclass(frozen=True)
class Stored:
    """One weight of a compressed package."""

    user: str
    """The operator that it belongs to."""
    shape: tuple[int, ...]
    form: str
    sizes: tuple[int, int]
    """Bytes before and after, scales included."""
    sqnr_db: float
    """Of the stored weight against the one before."""


def form_of(uses: frozenset[Use], shape: tuple[int, ...], compression: Compression) -> Form | str:
    """Choose the form of a weight, or say why it stays as it is.

    Args:
        uses: Where it is used.
        shape: Its shape.
        compression: What was asked for.
    """
    if others := sorted({kind for kind, _ in uses - _INPUT_AXIS.keys()}):
        return f"{', '.join(others)} does not multiply by it channel by channel"
    if len(shape) < 2:
        return "it has one axis only"
    if compression == "int8":
        return Form(8)
    sizes = [shape[_INPUT_AXIS[use]] for use in uses]
    block = next((b for b in BLOCKS if all(size % b == 0 for size in sizes)), 0)
    return Form(4, block) if block else Form(8)


def why_not_smaller(form: Form, shape: tuple[int, ...], compression: Compression) -> str | None:
    """Say why a weight takes more bits than asked for, or None."""
    if form.bits == int(compression.removeprefix("int")):
        return None
    blocks = " or ".join(map(str, BLOCKS))
    return f"no blocks of {blocks} input channels in {'x'.join(map(str, shape))}: {form} instead"


def to_json(stored: tuple[Stored, ...]) -> str:
    """Write the forms as text for a package."""
    return json.dumps([astuple(weight) for weight in stored])


def from_json(text: str) -> tuple[Stored, ...]:
    """Read what `to_json` wrote.

    Raises:
        RunError: If the text is something else.
    """
    try:
        return tuple(_stored(*row) for row in json.loads(text))
    except (ValueError, TypeError) as error:
        message = f"expected forms of weights in the package, got other text ({reason(error)}); compile again"
        raise RunError(message) from error


def _stored(user: Any, shape: Any, form: Any, sizes: Any, sqnr_db: Any) -> Stored:
    before, after = sizes
    return Stored(str(user), tuple(map(int, shape)), str(form), (int(before), int(after)), float(sqnr_db))
