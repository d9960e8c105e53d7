"""A histogram whose memory is fixed and whose content does not depend on the order of the data.

Bins lie evenly on ``[-reach, reach]`` and ``reach`` is a power of two. A value out of reach doubles the
width of the bins until it fits: neighbours merge in pairs, so no value crosses an edge. Zero is an edge.
"""

from __future__ import annotations

import math

import numpy as np

from ..export.artifact import Array

BINS = 1 << 13
"""A range of 256 levels that touches one side only is still drawn with at least 8 bins a level."""

_HALF = 12
"""Bins on either side of zero, as a power of two."""


class Histogram:
    """Counts of values on bins that widen as needed; holds ``BINS`` numbers for ever."""

    def __init__(self) -> None:
        self.counts: Array = np.zeros(BINS, np.int64)
        self._exponent: int | None = (
            None  # reach is 2 ** exponent; None until a value other than zero is seen
        )
        self._zeros = 0

    @property
    def reach(self) -> float:
        """Largest magnitude that the bins cover; 0 while nothing but zeros was seen."""
        return 0.0 if self._exponent is None else math.ldexp(1.0, self._exponent)

    @property
    def centres(self) -> Array:
        """(BINS,) float64: the middle of each bin."""
        return (np.arange(BINS) - BINS // 2 + 0.5) * (2 * self.reach / BINS)

    @property
    def edges(self) -> Array:
        """(BINS + 1,) float64: the borders of the bins, zero among them."""
        return (np.arange(BINS + 1) - BINS // 2) * (2 * self.reach / BINS)

    def update(self, values: Array) -> None:
        """Count values.

        Args:
            values: (...) finite numbers, any shape.
        """
        magnitude = float(np.max(np.abs(values), initial=0.0))
        if magnitude > 0.0:
            self._widen(math.frexp(magnitude)[1])
        if self._exponent is None:
            self._zeros += values.size
            return
        # Scaling by a power of two is exact in every float type: an edge is the same edge for all data.
        scaled = np.ldexp(values.reshape(-1), _HALF - self._exponent)
        places = np.floor(scaled).astype(np.int64) + BINS // 2
        self.counts += np.bincount(places, minlength=BINS)

    def _widen(self, exponent: int) -> None:
        """Merge neighbouring bins until ``2 ** exponent`` is within reach."""
        if self._exponent is None:
            self._exponent = exponent
            self.counts[BINS // 2] += self._zeros
            return
        merged = max(0, exponent - self._exponent)
        if merged:
            places = (np.arange(BINS) - BINS // 2 >> min(merged, 62)) + BINS // 2
            self.counts = np.bincount(places, self.counts, BINS).astype(np.int64)
            self._exponent = exponent
