"""Pictures of modelled figures as self-contained SVG: when which frame runs, and what a result depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..svg import tag, words

WIDTH = 760.0
ROW = 22.0
NAMES = 210.0
"""Room for names at the left."""
NOTES = 96.0
"""Room for figures at the right."""
TOP = 26.0
_INK, _PAPER, _LINE = "#1d1c1a", "#ffffff", "#dedad2"
COLOURS = {"frames": "#0b6794", "mask": "#c2560b", "link": "#766600", "electronics": "#2c7a4b"}
"""Colour of each kind of work in a Gantt chart."""


@dataclass(frozen=True)
class Span:
    """Some work in its time."""

    row: str
    kind: str
    """A key of ``COLOURS``."""
    start: float
    """In seconds."""
    stop: float
    note: str = ""


def gantt(title: str, spans: Sequence[Span]) -> str:
    """Draw spans of time, a row for each name, in the order of their first span.

    Args:
        title: For a screen reader, and above the chart.
        spans: At least one.
    """
    rows = list(dict.fromkeys(span.row for span in spans))
    end = max(span.stop for span in spans) or 1.0
    room = WIDTH - NAMES - NOTES
    parts = [_grid(rows), *_time_axis(end, len(rows), room)]
    for span in spans:
        y = TOP + rows.index(span.row) * ROW
        left = NAMES + room * span.start / end
        wide = max(room * (span.stop - span.start) / end, 0.75)
        hover = tag(
            "title", words(f"{span.row}: {span.kind}, {_seconds(span.stop - span.start)} {span.note}")
        )
        parts.append(tag("rect", hover, x=left, y=y + 4, width=wide, height=ROW - 8, fill=COLOURS[span.kind]))
    notes = {span.row: span.note for span in spans if span.note}
    parts += [_text(WIDTH - NOTES + 8, TOP + i * ROW + 15, notes.get(row, "")) for i, row in enumerate(rows)]
    return _figure(title, TOP + len(rows) * ROW + 30, [*parts, *_legend(spans, TOP + len(rows) * ROW + 20)])


def tornado(title: str, base: float, bars: Mapping[str, tuple[float, float]], *, unit: str = "") -> str:
    """Draw how far a result moves when each input alone is low, and high.

    Args:
        title: For a screen reader, and above the chart.
        base: The result with every input as it is; above 0.
        bars: The two results by the name of the input, largest first. The scale is logarithmic.
        unit: Behind every figure.
    """
    values = [base, *(v for pair in bars.values() for v in pair)]
    low, high = math.log(min(values)), math.log(max(values))
    span, room = (high - low) or 1.0, WIDTH - NAMES - NOTES

    def x(value: float) -> float:
        return NAMES + room * (math.log(value) - low) / span

    parts = [_grid(list(bars))]
    for i, (name, (down, up)) in enumerate(bars.items()):
        left, right = sorted((x(down), x(up)))
        hover = tag("title", words(f"{name}: {down:.3g} to {up:.3g}{unit}"))
        y = TOP + i * ROW
        parts.append(
            tag("rect", hover, x=left, y=y + 4, width=max(right - left, 0.75), height=ROW - 8, fill="#0b6794")
        )
        parts.append(_text(WIDTH - NOTES + 8, y + 15, f"{down:.3g} – {up:.3g}{unit}"))
    bottom = TOP + len(bars) * ROW
    parts.append(tag("line", x1=x(base), x2=x(base), y1=TOP - 4, y2=bottom + 4, stroke=_INK))
    parts.append(_text(x(base), bottom + 18, f"{base:.3g}{unit}", anchor="middle"))
    return _figure(title, bottom + 28, parts)


def _grid(rows: Sequence[str]) -> str:
    """Write names at the left and a line under every row."""
    lines = [
        tag("line", x1=0, x2=WIDTH, y1=TOP + (i + 1) * ROW, y2=TOP + (i + 1) * ROW, stroke=_LINE)
        for i in range(len(rows))
    ]
    names = [_text(4, TOP + i * ROW + 15, _short(row), hover=row) for i, row in enumerate(rows)]
    return "".join((*lines, *names))


def _time_axis(end: float, rows: int, room: float) -> list[str]:
    step = 10 ** math.floor(math.log10(end))
    step = step if end / step >= 3 else step / 5
    ticks = [i * step for i in range(int(end / step) + 1)]
    found: list[str] = []
    for value in ticks:
        x = NAMES + room * value / end
        found.append(tag("line", x1=x, x2=x, y1=TOP, y2=TOP + rows * ROW, stroke=_LINE))
        found.append(_text(x, TOP - 8, _seconds(value), anchor="middle"))
    return found


def _legend(spans: Iterable[Span], y: float) -> list[str]:
    kinds = dict.fromkeys(span.kind for span in spans)
    found: list[str] = []
    for i, kind in enumerate(kinds):
        x = NAMES + i * 110
        found.append(tag("rect", x=x, y=y - 9, width=10, height=10, fill=COLOURS[kind]))
        found.append(_text(x + 15, y, kind))
    return found


def _figure(title: str, height: float, parts: Iterable[str]) -> str:
    return tag(
        "svg",
        tag("title", words(title)),
        tag("rect", x=0, y=0, width=WIDTH, height=height, fill=_PAPER),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        font_family="system-ui, sans-serif",
        font_size=11,
        fill=_INK,
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", hover: str = "") -> str:
    title = (tag("title", words(hover)),) if hover else ()
    return tag("text", *title, words(text), x=x, y=y, text_anchor=anchor)


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "0" if value == 0 else f"{value / 1e-9:.3g} ns"
