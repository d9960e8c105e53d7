"""Scales with nice numbers, and the few words and shapes that every plot is drawn with.

Colours are ``currentColor`` and the custom properties ``--c0`` to ``--c7`` of the page, so that a plot
follows a light or a dark scheme by itself, and prints without one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

COLOURS = 8
FONT = 12
GLYPH = 0.56
"""Mean width of a letter over the font size, for text that must fit."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    """Pixel of ``low``."""
    end: float
    """Pixel of ``high``."""
    log: bool = False

    def __call__(self, value: float) -> float:
        """Give the pixel of a value, kept inside the axis; what is not a number goes to its low end."""
        low, high = self._inner(self.low), self._inner(self.high)
        share = (self._inner(value) - low) / (high - low)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """Give about ``count`` nice values inside the axis."""
        if self.log:
            found = _log_ticks(self.low, self.high, count)
            if len(found) >= 2:
                return found
        return _linear_ticks(self.low, self.high, count)

    def _inner(self, value: float) -> float:
        return math.log(max(self.low, value)) if self.log else value


def axis(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    zero: bool = False,
    log: bool = False,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """Make a scale that shows every value with a little air around.

    Args:
        values: What must be visible; those that are not finite are left out.
        start: Pixel of the low end.
        end: Pixel of the high end.
        zero: True begins at zero, as bars must.
        log: True asks for a logarithmic scale; only granted when every value is positive.
        limits: Values that the air may not pass, for example 0 and 100 for percents.
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if zero:
        return Axis(0.0, high * 1.02 if high > 0 else 1.0, start, end)
    if log and low > 0:
        air = max((high / low) ** 0.05, 1.02)
        return Axis(low / air, high * air, start, end, log=True)
    air = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return Axis(max(low - air, limits[0]), min(high + air, limits[1]), start, end)


def _linear_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(i * step for i in range(first, last + 1))


def _log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for marks in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        inside = [m * 10.0**d for d in decades for m in marks if low <= m * 10.0**d <= high]
        if len(inside) <= count + 2:
            return tuple(inside)
    return tuple(inside[:: math.ceil(len(inside) / count)])


def number(value: float) -> str:
    """Write a tick: no trailing zeros, no rounding noise."""
    return f"{value:.10g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.3g}"


def time_unit(largest_ms: float) -> tuple[float, str]:
    """Give the factor from milliseconds, and the unit, that keep numbers short."""
    if largest_ms < 0.5:
        return 1e3, "µs"
    return (1.0, "ms") if largest_ms < 5000 else (1e-3, "s")


def size_text(count: float) -> str:
    """Write a number of bytes with three digits."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def shorten(text: str, width: float, *, font: float = FONT) -> str:
    """Cut the middle out of a text that is wider than ``width`` pixels: both ends tell names apart."""
    room = int(width / (font * GLYPH))
    if len(text) <= room:
        return text
    tail = max((room - 1) // 2, 1)
    return f"{text[: max(room - 1 - tail, 1)]}…{text[-tail:]}"


def tag(name: str, *children: str, **attributes: str | float) -> str:
    """Write an element; ``_`` in an attribute's name stands for ``-``, a trailing one for nothing."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_attribute(value))}"
        for key, value in attributes.items()
    )
    inner = "".join(children)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def words(text: str) -> str:
    """Make any text safe inside an element."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def label(x: float, y: float, text: str, *, hover: str = "", **attributes: str | float) -> str:
    """Write a line of text, with the whole of it to hover over where it was shortened."""
    title = (tag("title", words(hover)),) if hover and hover != text else ()
    return tag("text", *title, words(text), x=x, y=y, **attributes)


def figure(name: str, description: str, width: float, height: float, *parts: str) -> str:
    """Wrap shapes into a self-contained SVG that a screen reader can name."""
    return tag(
        "svg",
        tag("title", words(name)),
        tag("desc", words(description)),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        font_size=FONT,
        fill="currentColor",
    )


def colour(index: int) -> str:
    """Give the style that makes ``currentColor`` the colour of one bundle."""
    return f"color:var(--c{index % COLOURS})"


def _attribute(value: str | float) -> str:
    return (
        _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else f"{round(value, 2):g}"
    )
