"""Small statistics as pure functions, each with its formula and source.

Axis letters: n samples, k blocks, r bootstrap repetitions, c classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..export.artifact import Array
from .result import Interval

Z95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""

BOOTSTRAP_REPETITIONS = 2000
"""Enough that an interval's end moves by a few percent of its width from seed to seed."""


def smallest_n_for_percentile(q: float, *, confidence: float = 0.95) -> int:
    """Return how many samples a percentile needs before it may be printed.

    The largest of n independent samples reaches the true q-quantile with probability 1 - q^n, so
    n = ceil(log(1 - confidence) / log(q)) (Wilks 1941, distribution-free tolerance limits).

    Args:
        q: The quantile, between 0 and 1.
        confidence: Probability that the largest sample reaches it.
    """
    return math.ceil(math.log(1 - confidence) / math.log(q))


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


def small_sample_factor(k: int) -> float:
    """Return how much wider a bootstrap interval over k blocks must be.

    The bootstrap uses the plug-in variance (short by (k-1)/k) and in effect normal quantiles; the factor
    sqrt(k/(k-1)) * t/z repairs both (Hesterberg 2015, section 5.3).

    Args:
        k: Number of independent blocks, 2 or more.
    """
    return math.sqrt(k / (k - 1)) * student_t95(k - 1) / Z95


def widest_interval(
    value: float, k: int, resample: Callable[[Array], Array], *, lengths: Sequence[int], seed: int
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


def wilson(correct: int, n: int) -> Interval:
    """Return a share with its 95 % score interval (Wilson 1927), right also near 0 and 1.

    centre = (p + z^2/2n) / (1 + z^2/n), half = z / (1 + z^2/n) * sqrt(p(1-p)/n + z^2/4n^2).

    Args:
        correct: Number of successes.
        n: Number of trials, 1 or more.
    """
    p, z2 = correct / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def mcnemar_exact(broke: int, fixed: int) -> float:
    """Return the exact two-sided p that two paired classifiers are equally good (McNemar 1947).

    With equal classifiers each of the m = broke + fixed discordant samples falls on either side with
    probability 1/2: p = min(1, 2 * sum over i <= min(broke, fixed) of C(m, i) / 2^m).

    Args:
        broke: Samples right before and wrong after.
        fixed: Samples wrong before and right after.
    """
    m, least = broke + fixed, min(broke, fixed)
    if 2 * least >= m - 1:
        return 1.0  # the two halves meet: the sum is 1/2 or more
    if m <= 1000:
        return min(1.0, 2 * sum(math.comb(m, i) for i in range(least + 1)) / 2**m)
    i = np.arange(least + 1)
    log_choose = math.lgamma(m + 1) - np.array([math.lgamma(j + 1) + math.lgamma(m - j + 1) for j in i])
    return min(1.0, 2 * float(np.exp(log_choose - m * math.log(2)).sum()))


def sqnr_db(reference: Array, candidate: Array) -> float:
    """Return the signal to quantization noise ratio, 10 log10(sum r^2 / sum (c - r)^2), in decibel.

    Args:
        reference: Any shape.
        candidate: The same shape.

    Returns:
        Infinity when they are equal, minus infinity when the candidate is not finite.
    """
    wanted, got = reference.astype(np.float64), candidate.astype(np.float64)
    if not np.isfinite(got).all():
        return -math.inf
    noise, signal = float(np.square(got - wanted).sum()), float(np.square(wanted).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def ranks(values: Array) -> Array:
    """Return ranks from 1; equal values share the mean of their ranks.

    Args:
        values: (n,).

    Returns:
        (n,) float64.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(x: Array, y: Array) -> float:
    """Return Spearman's rank correlation: Pearson's correlation of the ranks, ties averaged.

    Args:
        x: (n,).
        y: (n,).

    Returns:
        Between -1 and 1; 0 when one of them does not vary.
    """
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else 0.0


def agreement(first: Array, second: Array) -> float:
    """Return the share of samples with the same answer.

    Args:
        first: (n,) class numbers, n 1 or more.
        second: (n,) class numbers.
    """
    return float(np.mean(np.equal(first, second)))
