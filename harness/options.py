"""From what is typed to typed options."""

from __future__ import annotations

from typing import Any

from ..calibration.observers import OBSERVERS
from ..calibration.scheme import QuantScheme
from ..errors import UsageError, unknown_name
from ..models.spec import Preprocess


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
