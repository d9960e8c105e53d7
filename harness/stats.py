"""Small statistics as pure functions, each with its formula and source.

Axis letter: n samples.
"""

from __future__ import annotations

import math

import numpy as np

from ..export.artifact import Array
from .result import Interval

Z95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""


def smallest_n_for_percentile(q: float, *, confidence: float = 0.95) -> int:
    """Return how many samples a percentile needs before it may be printed.

    The largest of n independent samples reaches the true q-quantile with probability 1 - q^n, so
    n = ceil(log(1 - confidence) / log(q)) (Wilks 1941, distribution-free tolerance limits).

    Args:
        q: The quantile, between 0 and 1.
        confidence: Probability that the largest sample reaches it.
    """
    return math.ceil(math.log(1 - confidence) / math.log(q))


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
