"""From values seen to the range that is worth representing; memory never grows with the data.

Every range that a quantizer makes holds zero, so observers need no resolution far away from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..errors import BuildError
from ..export.artifact import Array
from .histogram import Histogram


class Observer(Protocol):
    """Looks at arrays one after another, then names a range."""

    def update(self, array: Array) -> None:
        """Take in values.

        Args:
            array: (...) numbers of any shape.

        Raises:
            BuildError: If a value is not finite.
        """
        ...

    def range(self) -> tuple[float, float]:
        """Give the lowest and the highest value worth representing.

        Raises:
            BuildError: If nothing was seen.
        """
        ...


class MinMax:
    """The whole range that was seen."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf

    def update(self, array: Array) -> None:
        """Take in values; see ``Observer``."""
        if array.size == 0:
            return
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BuildError(f"expected finite values, got {low} to {high}; look at the data and the network")
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> tuple[float, float]:
        """Give the range; see ``Observer``."""
        if self.low > self.high:
            msg = "expected at least one value to be seen, got none; give more samples"
            raise BuildError(msg)
        return self.low, self.high


class Percentile:
    """The range that leaves out the same small share of values at either end."""

    def __init__(self, percent: float = 99.99) -> None:
        if not 50.0 < percent <= 100.0:
            raise BuildError(f"expected a percentile above 50 and up to 100, got {percent}; give e.g. 99.99")
        self._outside = (1.0 - percent / 100.0) / 2.0
        self._seen = MinMax()
        self._histogram = Histogram()

    def update(self, array: Array) -> None:
        """Take in values; see ``Observer``."""
        self._seen.update(array)
        self._histogram.update(array)

    def range(self) -> tuple[float, float]:
        """Give the range; see ``Observer``."""
        low, high = self._seen.range()
        if low == high:
            return low, high
        below = np.concatenate([np.zeros(1), np.cumsum(self._histogram.counts)])
        edges = self._histogram.edges
        total = float(below[-1])
        bottom = float(np.interp(self._outside * total, below, edges))
        top = float(np.interp((1.0 - self._outside) * total, below, edges))
        return max(low, min(bottom, high)), min(high, max(top, low))


class MeanSquare:
    """The range whose 256 levels leave the smallest mean squared error: outliers are cut where that pays."""

    LEVELS = 255
    SHARES = tuple(np.linspace(1.0, 0.2, 33).tolist())

    def __init__(self) -> None:
        self._seen = MinMax()
        self._histogram = Histogram()

    def update(self, array: Array) -> None:
        """Take in values; see ``Observer``."""
        self._seen.update(array)
        self._histogram.update(array)

    def range(self) -> tuple[float, float]:
        """Give the range; see ``Observer``."""
        low, high = self._seen.range()
        if low == high:
            return low, high
        shares = (1.0, 1.0)
        # The two ends hardly influence each other: cut both alike, then each by itself.
        for candidates in (
            [(s, s) for s in self.SHARES],
            [(s, None) for s in self.SHARES],
            [(None, s) for s in self.SHARES],
        ):
            tried = [(a or shares[0], b or shares[1]) for a, b in candidates]
            shares = min([shares, *tried], key=lambda s: self._error(low * s[0], high * s[1]))
        return low * shares[0], high * shares[1]

    def _error(self, low: float, high: float) -> float:
        """Squared error of all values when ``low`` to ``high``, and zero, are represented."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / self.LEVELS
        filled = np.flatnonzero(self._histogram.counts)
        values = self._histogram.centres[filled]
        rounded = np.clip(np.round(values / step), round(low / step), round(high / step)) * step
        return float(self._histogram.counts[filled] @ (values - rounded) ** 2)


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "minmax": MinMax,
    "percentile": Percentile,
    "mse": MeanSquare,
}
"""Observers by the name that ``QuantScheme.observer`` and the command line use."""
