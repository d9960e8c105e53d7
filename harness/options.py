"""From what is typed to typed options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..calibration.observers import OBSERVERS
from ..calibration.scheme import QuantScheme
from ..errors import UsageError, unknown_name
from ..models.spec import Preprocess

_LONGEST_LABELS = 1 << 20


def shape(text: str | None) -> tuple[int, ...] | None:
    """Read ``"3,224,224"``.

    Raises:
        UsageError: If it is not positive sizes with commas between.
    """
    if text is None:
        return None
    try:
        sizes = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"expected --input-shape like 3,224,224 without the batch, got {text!r}")
    return sizes


def preprocess(*, mean: str | None, std: str | None, resize: str | None) -> Preprocess | None:
    """Collect how pictures become inputs; None when nothing was said.

    Raises:
        UsageError: If a list of numbers is not one, or a deviation is not positive.
    """
    if mean is None and std is None and resize is None:
        return None
    chosen: dict[str, Any] = {"mean": _numbers("--mean", mean or "0"), "std": _numbers("--std", std or "1")}
    if min(chosen["std"]) <= 0:
        raise UsageError(f"expected --std above zero, got {std!r}")
    if resize is not None:
        chosen["resize"] = resize
    return Preprocess(**chosen)


def labels(path: Path | None) -> tuple[str, ...] | None:
    """Read a file with one label a line; empty lines at its end do not count.

    Raises:
        UsageError: If it cannot be read, is longer than any list of classes, or has an empty label.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_LABELS + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "no UTF-8 text"
        raise UsageError(f"expected a text file of labels, got {path}: {what}; name another") from error
    found = tuple(line.strip() for line in text.rstrip().splitlines())
    if len(text) > _LONGEST_LABELS or not found or not all(found):
        raise UsageError(f"expected one label a line in {path}, at most 1 MB, got something else; mend it")
    return found


def scheme(observer: str | None) -> QuantScheme:
    """Choose the observer by name.

    Raises:
        UsageError: If there is none of that name.
    """
    if observer is None:
        return QuantScheme()
    if observer not in OBSERVERS:
        raise unknown_name(kind="observer", name=observer, known=OBSERVERS)
    return QuantScheme(observer=observer)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"expected {option} as numbers with commas between, got {text!r}") from None


def names(text: str | None) -> tuple[str, ...]:
    """Read ``"a,b"``; nothing is no names."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def whole_numbers(text: str | None, option: str) -> tuple[int, ...]:
    """Read ``"8"``, ``"4,6,8"`` or ``"2..12"``.

    Raises:
        UsageError: If it is something else.
    """
    found: list[int] = []
    try:
        for part in names(text):
            first, dots, last = part.partition("..")
            found.extend(range(int(first), int(last) + 1) if dots else (int(first),))
    except ValueError:
        found = []
    if text is not None and not found:
        raise UsageError(f"expected {option} like 8, 4,6,8 or 2..12, got {text!r}")
    return tuple(found)


def numbers(text: str | None, option: str) -> tuple[float, ...]:
    """Read ``"0.5"`` or ``"1e3,1e4"``.

    Raises:
        UsageError: If it is something else.
    """
    try:
        found = tuple(float(part) for part in names(text))
    except ValueError:
        found = ()
    if text is not None and not (found and all(math.isfinite(value) for value in found)):
        raise UsageError(f"expected {option} like 0.5 or 1e3,1e4, got {text!r}")
    return found


def plane(text: str) -> tuple[int, int]:
    """Read ``"1920x1080"`` as width and height.

    Raises:
        UsageError: If it is something else.
    """
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        width = height = 0
    if width < 1 or height < 1:
        raise UsageError(f"expected pixels like 1920x1080, got {text!r}")
    return width, height
