"""Intervals by resampling blocks of measurements, since neighbours in time are not independent.

Axis letters: n samples, k blocks, r bootstrap repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..export.artifact import Array
from .result import Interval
from .stats import Z95

BOOTSTRAP_REPETITIONS = 2000
"""Enough that an interval's end moves by a few percent of its width from seed to seed."""

BLOCK_LENGTHS = (1, 2, 4, 8)
"""Neighbours that are drawn together; longer ones show slow drift."""

# Fine enough that an interval's end is a tenth of a percent of the ranks from the exact one.
RANK_CELLS = 1000


def median_interval(values: Array, block: Array, *, seed: int) -> Interval:
    """Return the median with its 95 % interval over blocks.

    Args:
        values: (n,).
        block: (n,) number of the block that each value belongs to, ascending from 0.
        seed: Seed of the resampling.
    """
    k = int(block[-1]) + 1
    value = float(np.median(values))
    if k < 2:
        return Interval(value, float(values.min()), float(values.max()))
    last, below = _rank_cells(values, block, k)

    def medians(drawn: Array) -> Array:
        # A block weighs as often as it was drawn; the median is where half the weight lies below.
        weight = below @ _times_drawn(drawn).T
        return last[(weight < weight[-1] / 2).sum(axis=0)]

    return widest_interval(value, k, medians, seed=seed)


def midmean_interval(values: Array, opening: Array, *, seed: int) -> Interval:
    """Return the midmean with its 95 % interval over blocks, and over openings where there are several.

    Args:
        values: (k,), one of each block.
        opening: (k,) number of the opening that each block was taken in.
        seed: Seed of the resampling.
    """
    value = float(midmean(values))
    found = widest_interval(value, len(values), lambda drawn: midmean(values[drawn]), seed=seed)
    each = np.array([midmean(values[opening == number]) for number in np.unique(opening)])
    if len(each) < 2:
        return found
    across = widest_interval(value, len(each), lambda drawn: midmean(each[drawn]), lengths=(1,), seed=seed)
    return Interval(value, min(found.low, across.low), max(found.high, across.high))


def widest_interval(
    value: float,
    k: int,
    resample: Callable[[Array], Array],
    *,
    seed: int,
    lengths: Sequence[int] = BLOCK_LENGTHS,
) -> Interval:
    """Bootstrap at several block lengths and keep the widest 95 % interval.

    Where neighbours are independent all lengths agree. Where the machine drifts, longer blocks vary more
    than short ones predict (method of batch means), and the widest interval is the honest one.

    Args:
        value: The estimate from all blocks.
        k: Number of blocks, 2 or more.
        resample: From (r, k) block indices to the (r,) estimates of the resamples.
        lengths: Neighbours drawn together, one interval for each; skipped where under three runs fit.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    low = high = value
    for length in lengths:
        independent = k // length
        if independent < min(3, k):
            continue
        estimates = resample(resampled_blocks(k, length, BOOTSTRAP_REPETITIONS, rng))
        factor = small_sample_factor(independent)
        ends = value + (np.quantile(estimates, [0.025, 0.975]) - value) * factor
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return Interval(value, low, high)


def midmean(values: Array) -> Array:
    """Return the mean of the middle half along the last axis.

    Nearly as efficient as the mean for normal noise, and unmoved by a quarter of wild blocks on each side.

    Args:
        values: (..., k).

    Returns:
        (...), the estimates.
    """
    ordered = np.sort(values, axis=-1)
    cut = values.shape[-1] // 4
    middle = ordered[..., cut : values.shape[-1] - cut]
    return np.asarray(middle.mean(axis=-1))


def student_t95(df: int) -> float:
    """Return the two-sided 95 % point of Student's t, to 1 % from three degrees of freedom on.

    Cornish-Fisher expansion in 1/df (Abramowitz and Stegun 26.7.5).

    Args:
        df: Degrees of freedom, 1 or more.
    """
    z = Z95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / df + second / df**2 + third / df**3


def small_sample_factor(k: int) -> float:
    """Return how much wider a bootstrap interval over k blocks must be.

    The bootstrap uses the plug-in variance (short by (k-1)/k) and in effect normal quantiles; the factor
    sqrt(k/(k-1)) * t/z repairs both (Hesterberg 2015, section 5.3).

    Args:
        k: Number of independent blocks, 2 or more.
    """
    return math.sqrt(k / (k - 1)) * student_t95(k - 1) / Z95


def resampled_blocks(k: int, length: int, repetitions: int, rng: np.random.Generator) -> Array:
    """Draw block indices for a circular block bootstrap (Politis and Romano 1992).

    Runs of ``length`` neighbours are drawn with replacement, wrapping at the end, so what is correlated
    over up to ``length`` neighbours stays together.

    Args:
        k: Number of blocks there are.
        length: Neighbours drawn together.
        repetitions: Number of resamples, r.
        rng: Source of randomness.

    Returns:
        (r, k) indices between 0 and k - 1.
    """
    runs = math.ceil(k / length)
    starts = rng.integers(0, k, size=(repetitions, runs, 1))
    return ((starts + np.arange(length)) % k).reshape(repetitions, -1)[:, :k]


def _rank_cells(values: Array, block: Array, k: int) -> tuple[Array, Array]:
    """Sort once and cut into cells of neighbouring ranks, for a bootstrap over any number of values.

    Args:
        values: (n,).
        block: (n,) block of each, below k.
        k: Number of blocks.

    Returns:
        The largest value of each cell, (cells,), and how many values of each block lie in it or
        below it, (cells, k).
    """
    n = len(values)
    order = np.argsort(values, kind="stable")
    cells = min(RANK_CELLS, n)
    cell = np.arange(n) * cells // n
    inside = np.zeros((cells, k))
    np.add.at(inside, (cell, block[order]), 1.0)
    ends = np.searchsorted(cell, np.arange(cells), side="right") - 1
    return values[order][ends], np.cumsum(inside, axis=0)


def _times_drawn(drawn: Array) -> Array:
    """Count how often each block occurs in each resample: (r, k) indices to (r, k) counts."""
    blocks = range(drawn.shape[1])
    return np.stack([np.count_nonzero(drawn == block, axis=1) for block in blocks], axis=1).astype(np.float64)
