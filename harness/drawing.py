"""The few words and shapes that every plot is drawn with, as SVG text.

Colours are ``currentColor`` and the custom properties ``--c0`` to ``--c7`` of the page, so that a plot
follows a light or a dark scheme by itself, and prints without one.
"""

from __future__ import annotations

from ..runtimes.svg import tag, words

WIDTH = 440.0
"""Of every plot: a phone shows it at full size, a page two of them side by side."""
EDGE = 6.0
COLOURS = 8
FONT = 12
NOTE = 11
"""Size of what is said about a row."""
GLYPH = 0.62
"""Mean width of a letter over the font size, for text that must fit."""


def number(value: float) -> str:
    """Write a tick: no trailing zeros, no rounding noise."""
    return f"{value:.10g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.3g}"


def time_unit(largest_ms: float) -> tuple[float, str]:
    """Give the factor from milliseconds, and the unit, that keep numbers short."""
    if largest_ms < 0.05:
        return 1e3, "µs"
    return (1.0, "ms") if largest_ms < 5000 else (1e-3, "s")


def size_text(count: float) -> str:
    """Write a number of bytes with three digits."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.{0 if unit == 'B' else max(3 - len(str(int(count))), 0)}f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def shorten(text: str, width: float, *, font: float = FONT) -> str:
    """Cut the middle out of a text that is wider than ``width`` pixels: both ends tell names apart."""
    room = int(width / (font * GLYPH))
    if len(text) <= room:
        return text
    tail = max((room - 1) // 2, 1)
    return f"{text[: max(room - 1 - tail, 1)]}…{text[-tail:]}"


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


def named_row(name: str, note: str, y: float) -> str:
    """Write a row's name at the left and what is to be said about it at the right, without overlap."""
    room = WIDTH - 2 * EDGE - len(note) * NOTE * GLYPH - 12
    right = label(WIDTH - EDGE, y, note, text_anchor="end", font_size=NOTE, opacity=0.75)
    return label(EDGE, y, shorten(name, room), hover=name) + right


def stroke(x1: float, y1: float, x2: float, y2: float, *, width: float = 1.6, opacity: float = 1) -> str:
    """Draw a straight line."""
    return tag(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_width=width, stroke_opacity=opacity
    )
