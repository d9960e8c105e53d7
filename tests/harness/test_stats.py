import math

import numpy as np
import pytest

from fourfold.harness import stats


@pytest.mark.parametrize(("q", "n"), [(0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995)])
def test_a_percentile_needs_as_many_samples_as_reach_it_with_95_percent(q: float, n: int):
    assert stats.smallest_n_for_percentile(q) == n
    assert 1 - q**n >= 0.95 > 1 - q ** (n - 1)


def test_wilson_meets_a_worked_example_and_stays_a_share():
    # 81 of 263, Newcombe 1998, table 1.
    found = stats.wilson(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert stats.wilson(0, 20).low == 0
    assert stats.wilson(20, 20).high == pytest.approx(1)
    assert stats.wilson(20, 20).low < 0.9


def test_mcnemar_is_the_binomial_test():
    assert stats.mcnemar_exact(0, 0) == 1
    assert stats.mcnemar_exact(3, 2) == 1
    assert stats.mcnemar_exact(5, 0) == pytest.approx(2 / 32)
    assert stats.mcnemar_exact(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert stats.mcnemar_exact(12, 30) == stats.mcnemar_exact(30, 12)


def test_mcnemar_for_many_samples_continues_the_exact_sum():
    exact = 2 * sum(math.comb(1201, i) for i in range(551)) / 2**1201
    assert stats.mcnemar_exact(550, 651) == pytest.approx(exact, rel=1e-9)
    assert stats.mcnemar_exact(10_000, 10_000) == 1
    assert 0 < stats.mcnemar_exact(9_800, 10_200) < 0.01


def test_sqnr():
    x = np.array([3.0, -4.0], np.float32)
    assert stats.sqnr_db(x, x + np.float32(0.5)) == pytest.approx(10 * math.log10(25 / 0.5))
    assert stats.sqnr_db(x, x) == math.inf
    assert stats.sqnr_db(x, np.array([3.0, np.nan])) == -math.inf
    assert stats.sqnr_db(np.zeros(2), np.ones(2)) == -math.inf


def test_ranks_share_ties():
    assert stats.ranks(np.array([10, 20, 20, 5])).tolist() == [2, 3.5, 3.5, 1]


def test_spearman_meets_hand_worked_values():
    x = np.arange(8.0)
    assert stats.spearman(x, np.exp(x)) == pytest.approx(1)
    assert stats.spearman(x, -(x**3)) == pytest.approx(-1)
    # Ranks 1..4 and 1, 2.5, 2.5, 4: covariance 4.5, variances 5 and 4.5.
    assert stats.spearman(np.arange(4), np.array([1, 2, 2, 3])) == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert stats.spearman(x, np.ones(8)) == 0


def test_agreement():
    assert stats.agreement(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4])) == 0.75
