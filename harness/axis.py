"""Scales from values to pixels, with ticks at nice numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


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
