"""Numbers and verdicts as a reader of a page wants them."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from ..export.parity import TOLERANCES, Parity
from .drawing import time_unit
from .result import Interval


def digits(value: float, count: int = 3) -> str:
    """Write a number with ``count`` significant digits and no exponent, as far as that is short."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if not -4 <= power <= 6:
        return f"{value:.{count - 1}e}"
    return f"{value:,.{max(count - 1 - power, 0)}f}"


def percent(share: float, places: int = 1) -> str:
    """Write a share of 1 as a percentage."""
    return f"{100 * share:.{places}f} %"


def duration(ms: float) -> str:
    """Write milliseconds in a unit that keeps the number short."""
    factor, unit = time_unit(ms)
    return f"{digits(ms * factor)} {unit}"


def duration_interval(interval: Interval) -> str:
    """Write the interval of a duration in the unit of its value."""
    factor, unit = time_unit(interval.value)
    return f"{digits(interval.low * factor)} to {digits(interval.high * factor)} {unit}"


def percent_interval(interval: Interval) -> str:
    """Write an interval of shares in percent."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def p_value(p: float) -> str:
    """Write a p-value; the very small ones only as a bound."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def moment(text: str) -> str:
    """Write an ISO 8601 time to the minute; what is none stays as it is."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def tolerance(kind: str) -> str:
    """Write the bound that a comparison had to keep."""
    known = TOLERANCES.get(kind)
    if known is None:
        return "not in this version's table"
    bounds = [
        *([f"relative ≤ {known.relative:g}"] if math.isfinite(known.relative) else []),
        *([f"at least {known.sqnr_db:g} dB"] if math.isfinite(known.sqnr_db) else []),
    ]
    return ", ".join(bounds) or "none"


def reason(kind: str) -> str:
    """Say why a tolerance is as large as it is."""
    return TOLERANCES[kind].reason if kind in TOLERANCES else ""


def equality(checked: Sequence[Parity]) -> str:
    """Say in a few words how equal a step was found, by the worst of its comparisons."""
    if not checked:
        return ""
    worst = min(checked, key=lambda p: (p.ok, -p.relative if math.isfinite(p.relative) else p.sqnr_db))
    batches = ", ".join(str(b) for b in dict.fromkeys(p.batch for p in checked))
    said = "equal" if worst.ok else "differs"
    edges = put_aside(sum(p.redrawn for p in checked))
    return (
        f"{said}: relative {digits(worst.relative, 2)}, {digits(worst.sqnr_db)} dB (batch {batches}){edges}"
    )


def put_aside(inputs: int) -> str:
    """Say how many inputs were replaced because no two evaluations need to agree on them; usually nothing."""
    what = "input" if inputs == 1 else "inputs"
    return f", {inputs} {what} on the edge of a decision put aside" if inputs else ""


def data_uri(svg: str) -> str:
    """Write a picture so that a page holds it; as an image, nothing in it is ever executed."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
