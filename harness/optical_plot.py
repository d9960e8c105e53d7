"""A sweep as one SVG picture: simulated accuracy against what was varied most, a line for each rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..runtimes.optical4f.vary import Variation
from ..runtimes.svg import tag, words
from .axis import Axis, axis
from .drawing import number
from .optical_sweep import Sweep, Swept

WIDTH, HEIGHT = 720.0, 380.0
LEFT, TOP, BOTTOM, NAMES = 56.0, 40.0, 48.0, 190.0
COLOURS = ("#0b6794", "#c2560b", "#2c7a4b", "#8347a0", "#b3261e", "#766600", "#007d7a", "#a63c70")
_INK, _LINE = "#1d1c1a", "#dedad2"

_PROPERTIES: dict[str, tuple[str, bool]] = {
    "bits": ("bits of the camera's converter", False),
    "photons": ("electrons at the brightest pixel", True),
    "shift": ("shift of the mask, pixels", False),
}
"""What may stand on the horizontal axis, and whether its scale is logarithmic."""


def sweep_plot(found: Sweep) -> str:
    """Draw a sweep.

    Args:
        found: The sweep.

    Returns:
        A self-contained SVG; ``""`` when no number was varied.
    """
    name = max(_PROPERTIES, key=lambda n: len({getattr(p.variation, n) for p in found.points}))
    points = [p for p in found.points if getattr(p.variation, name) is not None]
    if len({getattr(p.variation, name) for p in points}) < 2:
        return ""
    title, log = _PROPERTIES[name]
    values = [float(getattr(p.variation, name)) for p in points]
    x = axis(values, LEFT, WIDTH - NAMES, log=log)
    shares = [100 * v for p in points for v in (p.share.low, p.share.high)]
    y = axis([*shares, 100 * found.float_share.value], HEIGHT - BOTTOM, TOP, limits=(0.0, 100.0))
    lines = _lines(points, name)
    parts = [_frame(x, y, title), _level(found, y)]
    for number_, (label, line) in enumerate(lines.items()):
        colour = COLOURS[number_ % len(COLOURS)]
        parts.append(_line(line, lambda p: float(getattr(p.variation, name)), x, y, colour))
        parts.append(_text(WIDTH - NAMES + 12, TOP + 16 + 18 * number_, label, fill=colour))
    heading = f"{found.model} on {found.device}: simulated top-1 accuracy, %, bars are 95 % intervals"
    return tag(
        "svg",
        tag("title", words(heading)),
        tag("rect", x=0, y=0, width=WIDTH, height=HEIGHT, fill="#ffffff"),
        _text(LEFT - 44, 18, heading),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        font_family="system-ui, sans-serif",
        font_size=12,
        fill=_INK,
    )


def _lines(points: Sequence[Swept], name: str) -> dict[str, list[Swept]]:
    lines: dict[str, list[Swept]] = {}
    for point in points:
        rest: Variation = replace(point.variation, **{name: None})
        lines.setdefault(rest.title, []).append(point)
    return {
        label: sorted(line, key=lambda p: float(getattr(p.variation, name))) for label, line in lines.items()
    }


def _line(line: Sequence[Swept], value: Callable[[Swept], float], x: Axis, y: Axis, colour: str) -> str:
    places = [(x(value(p)), y(100 * p.share.value)) for p in line]
    path = "M" + " L".join(f"{at_x:.1f} {at_y:.1f}" for at_x, at_y in places)
    shapes = [tag("path", d=path, fill="none", stroke=colour, stroke_width=1.6)]
    for point, (at_x, at_y) in zip(line, places, strict=True):
        hover = tag("title", words(f"{point.title}: {100 * point.share.value:.1f} %"))
        low, high = y(100 * point.share.low), y(100 * point.share.high)
        shapes.append(tag("line", x1=at_x, x2=at_x, y1=low, y2=high, stroke=colour))
        shapes.append(tag("circle", hover, cx=at_x, cy=at_y, r=3.5, fill=colour))
    return "".join(shapes)


def _level(found: Sweep, y: Axis) -> str:
    at = y(100 * found.float_share.value)
    line = tag(
        "line", x1=LEFT, x2=WIDTH - NAMES, y1=at, y2=at, stroke=_INK, stroke_dasharray="4 3", stroke_width=1
    )
    return line + _text(WIDTH - NAMES + 12, at + 4, f"float, {100 * found.float_share.value:.1f} %")


def _frame(x: Axis, y: Axis, title: str) -> str:
    parts: list[str] = []
    for value in x.ticks():
        at = x(value)
        parts.append(tag("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, stroke=_LINE))
        parts.append(_text(at, HEIGHT - BOTTOM + 16, number(value), anchor="middle"))
    for value in y.ticks():
        at = y(value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - NAMES, y1=at, y2=at, stroke=_LINE))
        parts.append(_text(LEFT - 6, at + 4, number(value), anchor="end"))
    parts.append(_text((x.start + x.end) / 2, HEIGHT - 12, title, anchor="middle"))
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = _INK) -> str:
    return tag("text", words(text), x=x, y=y, text_anchor=anchor, fill=fill)
