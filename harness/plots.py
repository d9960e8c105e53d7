"""Plots of measurements as inline SVG: pure functions from values to text, without a script or a library.

The index of a bundle picks its colour, the same in every plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..export.artifact import Array
from .axis import Axis, axis
from .drawing import (
    EDGE,
    FONT,
    NOTE,
    WIDTH,
    colour,
    figure,
    label,
    named_row,
    number,
    shorten,
    stroke,
    tag,
    time_unit,
    words,
)
from .result import Interval
from .wording import digits

# Beyond this share of samples the axis is cut when the rest would stretch it: one far outlier hides all else.
_SHOWN = 0.99
_LOG_FROM = 6.0  # ratio of slowest to fastest from which a linear axis hides the fast ones


@dataclass(frozen=True)
class Point:
    """One bundle in the plot of accuracy against latency."""

    name: str
    index: int
    """Picks the colour."""
    latency_ms: Interval
    accuracy: Interval
    """Share of right answers, 0..1."""


def latency_plot(
    samples: Mapping[str, Array], medians: Mapping[str, Interval], indices: Mapping[str, int]
) -> str:
    """Draw how the latencies of each bundle are distributed, with the median and its interval.

    Args:
        samples: (n,) nanoseconds by name; empty ones are left out.
        medians: Median in milliseconds by name; a name without one shows its distribution only.
        indices: Picks the colour, by name.

    Returns:
        The plot, or ``""`` when there is nothing to draw.
    """
    rows = {name: np.asarray(s, dtype=np.float64) / 1e6 for name, s in samples.items() if len(s)}
    if not rows:
        return ""
    factor, unit = time_unit(max(float(np.median(ms)) for ms in rows.values()))
    rows = {name: ms * factor for name, ms in rows.items()}
    row, top = 48.0, 4.0
    bottom = top + row * len(rows)
    scale = _time_axis(list(rows.values()))
    parts = [_x_axis(scale, top, bottom, f"latency, {unit}{' (log scale)' if scale.log else ''}")]
    for i, (name, ms) in enumerate(rows.items()):
        median = medians.get(name)
        scaled = None if median is None else _times(median, factor)
        parts.append(_ridge(name, ms, scaled, unit, scale, top + row * i, row, colour(indices.get(name, i))))
    described = f"Distribution of measured latencies in {unit} of {', '.join(rows)}; the mark is the median."
    return figure("Latency distributions", described, WIDTH, bottom + 34, *parts)


def accuracy_plot(points: Sequence[Point]) -> str:
    """Draw accuracy against median latency, both with their 95 % intervals; up and left is better.

    Args:
        points: The bundles that have both.

    Returns:
        The plot, or ``""`` when there is nothing to draw.
    """
    if not points:
        return ""
    factor, unit = time_unit(max(p.latency_ms.value for p in points))
    left, top, names = 34.0, 26.0, 160.0
    height = max(210.0, 15.0 * len(points))
    latencies = [v * factor for p in points for v in (p.latency_ms.low, p.latency_ms.high)]
    spread = max(latencies) / min(latencies) if min(latencies) > 0 else 1.0
    x = axis(latencies, left, WIDTH - names - 30, log=spread > _LOG_FROM)
    shares = [100 * v for p in points for v in (p.accuracy.low, p.accuracy.high)]
    y = axis(shares, top + height, top, limits=(0.0, 100.0))
    places = _spread([y(100 * p.accuracy.value) for p in points], 15.0, top + 6, top + height - 4)
    parts = [
        _x_axis(x, top, top + height, f"median latency, {unit}{' (log scale)' if x.log else ''}", count=4),
        _y_axis(y, x),
        label(EDGE, FONT, "top-1 accuracy, %; bars are 95 % intervals", opacity=0.75),
    ]
    for point, place in zip(points, places, strict=True):
        parts.append(_cross(point, factor, unit, x, y, place, WIDTH - names))
    described = "; ".join(
        f"{p.name}: {digits(100 * p.accuracy.value)} % at {digits(p.latency_ms.value * factor)} {unit}"
        for p in points
    )
    return figure("Accuracy against latency", described, WIDTH, top + height + 34, *parts)


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def _time_axis(rows: Sequence[Array]) -> Axis:
    low = min(float(ms.min()) for ms in rows)
    shown = max(float(np.quantile(ms, _SHOWN)) for ms in rows)
    high = max(float(ms.max()) for ms in rows)
    spread = high - low if high - low <= 1.5 * (shown - low) else shown - low
    medians = [float(np.median(ms)) for ms in rows]
    ratio = max(medians) / min(medians) if min(medians) > 0 else 1.0
    return axis([low, low + spread], EDGE + 2, WIDTH - EDGE - 2, log=ratio > _LOG_FROM)


def _ridge(
    name: str, ms: Array, median: Interval | None, unit: str, scale: Axis, y: float, height: float, style: str
) -> str:
    base = y + height - 10
    beyond = int((ms > scale.high).sum())
    note = f"{beyond} of {len(ms)} off the axis" if beyond else f"{len(ms)} samples"
    if median is not None:
        note = f"{digits(median.value)} {unit}, {note}"
    shapes = [tag("path", d=_density(ms, scale, base, 20.0), fill="currentColor", opacity=0.45)]
    if median is not None:
        middle = scale(median.value)
        shapes += [
            tag(
                "line", x1=middle, x2=middle, y1=base - 21, y2=base + 5, stroke="currentColor", stroke_width=2
            ),
            stroke(scale(median.low), base + 3, scale(median.high), base + 3, width=4),
        ]
    return named_row(name, note, y + FONT) + tag("g", *shapes, style=style)


def _density(ms: Array, scale: Axis, base: float, height: float) -> str:
    """Outline a smoothed histogram over pixels; its height is relative to its own peak."""
    pixels = np.array([scale(float(v)) for v in ms[ms <= scale.high]] or [scale(float(ms.min()))])
    low, high = float(pixels.min()) - 3, float(pixels.max()) + 3
    counts, edges = np.histogram(pixels, bins=min(max(int((high - low) / 3), 6), 60), range=(low, high))
    smooth = np.convolve(np.pad(counts, 2), [0.06, 0.24, 0.4, 0.24, 0.06], mode="same")
    step = edges[1] - edges[0]
    centres = np.concatenate(([edges[0] - 1.5 * step, edges[0] - 0.5 * step], edges[:-1] + step / 2))
    centres = np.concatenate((centres, [edges[-1] + 0.5 * step, edges[-1] + 1.5 * step]))
    outline = " ".join(
        f"L{x:.1f} {base - height * c / smooth.max():.1f}" for x, c in zip(centres, smooth, strict=True)
    )
    return f"M{centres[0]:.1f} {base:.1f} {outline} L{centres[-1]:.1f} {base:.1f}Z"


def _cross(point: Point, factor: float, unit: str, x: Axis, y: Axis, place: float, names: float) -> str:
    time, share = _times(point.latency_ms, factor), _times(point.accuracy, 100)
    at_x, at_y = x(time.value), y(share.value)
    full = f"{point.name}: {digits(share.value)} % at {digits(time.value)} {unit}"
    leader = f"M{at_x + 6:.1f} {at_y:.1f} L{x.end + 6:.1f} {place:.1f} H{names - 8:.1f}"
    shapes = (
        tag("path", d=leader, fill="none", stroke="currentColor", stroke_width=0.8, opacity=0.45),
        stroke(x(time.low), at_y, x(time.high), at_y),
        stroke(at_x, y(share.low), at_x, y(share.high)),
        tag("circle", tag("title", words(full)), cx=at_x, cy=at_y, r=4.5, fill="currentColor"),
        tag("circle", cx=names - 8, cy=place, r=3, fill="currentColor"),
    )
    short = shorten(point.name, WIDTH - names, font=NOTE)
    text = label(names, place + 4, short, hover=full, font_size=NOTE)
    return tag("g", *shapes, style=colour(point.index)) + text


def _spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart to at least ``gap``, in their order, inside the range when it has room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed: list[float] = []
    for i in order:
        placed.append(max(wanted[i], low if not placed else placed[-1] + gap))
    limit = max(high, low + gap * (len(wanted) - 1))
    for k in reversed(range(len(placed))):
        placed[k] = min(placed[k], limit)
        limit = placed[k] - gap
    result = [0.0] * len(wanted)
    for i, at in zip(order, placed, strict=True):
        result[i] = at
    return result


def _x_axis(scale: Axis, top: float, bottom: float, title: str, *, count: int = 5) -> str:
    parts = [stroke(scale.start, bottom, scale.end, bottom, width=1, opacity=0.5)]
    for value in scale.ticks(count):
        at = scale(value)
        anchor = "start" if at < 14 else "end" if at > WIDTH - 14 else "middle"
        parts.append(stroke(at, top, at, bottom, width=1, opacity=0.13))
        parts.append(label(at, bottom + 14, number(value), text_anchor=anchor, font_size=NOTE))
    middle = (scale.start + scale.end) / 2
    parts.append(label(middle, bottom + 29, title, text_anchor="middle", opacity=0.75))
    return "".join(parts)


def _y_axis(scale: Axis, across: Axis) -> str:
    parts: list[str] = []
    for value in scale.ticks():
        at = scale(value)
        parts.append(stroke(across.start, at, across.end, at, width=1, opacity=0.13))
        parts.append(label(across.start - 5, at + 4, number(value), text_anchor="end", font_size=NOTE))
    return "".join(parts)
