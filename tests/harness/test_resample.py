import math

import numpy as np
import pytest

from fourfold.harness import resample


@pytest.mark.parametrize(
    ("df", "t"), [(3, 3.18245), (4, 2.77645), (9, 2.26216), (19, 2.09302), (100, 1.98397)]
)
def test_student_t_meets_the_printed_tables(df: int, t: float):
    assert resample.student_t95(df) == pytest.approx(t, rel=0.01)


def test_blocks_are_runs_of_neighbours_that_wrap():
    drawn = resample.resampled_blocks(10, 4, 500, np.random.default_rng(0))
    assert drawn.shape == (500, 10)
    inside = np.diff(drawn.reshape(500, 10), axis=1)[:, [0, 1, 2, 4, 5, 6, 8]]
    assert set(np.unique(inside % 10)) == {1}
    assert set(np.unique(drawn)) == set(range(10))


def _coverage(rho: float, lengths: tuple[int, ...], k: int = 40, runs: int = 250) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for run in range(runs):
        x = np.empty(k)
        x[0] = rng.standard_normal()
        for i in range(1, k):
            x[i] = rho * x[i - 1] + math.sqrt(1 - rho**2) * rng.standard_normal()
        found = resample.widest_interval(
            float(x.mean()), k, lambda d, x=x: x[d].mean(axis=1), lengths=lengths, seed=run
        )
        hits += found.low <= 0 <= found.high
    return hits / runs


def test_the_interval_covers_the_truth_for_independent_and_for_drifting_blocks():
    assert _coverage(0.0, (1,)) > 0.92
    assert _coverage(0.7, (1,)) < 0.75, "the naive interval should fail here, or this test shows nothing"
    assert _coverage(0.7, (1, 4, 8)) > 0.88


def test_the_interval_repeats_with_its_seed():
    x = np.random.default_rng(1).normal(size=30)
    first, again = (
        resample.widest_interval(0.0, 30, lambda d: x[d].mean(axis=1), lengths=(1, 3), seed=5)
        for _ in range(2)
    )
    assert first == again
    assert first.low < first.value < first.high


def test_midmean_ignores_wild_ends():
    assert resample.midmean(np.array([1.0, 2.0, 3.0, 4.0, 1e9, -1e9, 2.5, 2.5])) == pytest.approx(2.5)
    assert resample.midmean(np.array([[1.0, 3.0], [5.0, 7.0]])).tolist() == [2.0, 6.0]


@pytest.mark.parametrize("n", [40, 400, 5000])
def test_the_median_of_resampled_blocks_is_that_of_their_values(n: int):
    rng = np.random.default_rng(n)
    block = np.sort(rng.integers(0, 10, n))
    block[[0, -1]] = 0, 9
    values = rng.normal(size=n) + block
    found = resample.median_interval(values, block, seed=0)
    drawn = rng.integers(0, 10, (600, 10))
    direct = [np.median(np.concatenate([values[block == b] for b in row])) for row in drawn]
    factor = resample.small_sample_factor(10)
    low, high = found.value + (np.quantile(direct, [0.025, 0.975]) - found.value) * factor
    assert found.value == np.median(values)
    # The widest over block lengths is at least the interval of single blocks, made here the slow way.
    assert found.low <= low + 0.4
    assert found.high >= high - 0.4
    assert found.high - found.low > 2


def test_the_fast_median_is_exact_for_one_draw_of_every_block():
    rng = np.random.default_rng(0)
    values, block = rng.normal(size=101), np.sort(rng.integers(0, 5, 101))
    seen: list[float] = []

    def spy(value: float, k: int, medians: object, *, seed: int) -> str:
        drawn = np.array([[0, 1, 2, 3, 4], [0, 0, 0, 4, 4], [3, 3, 3, 3, 3]])
        seen.extend(medians(drawn))  # pyright: ignore
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "widest_interval", spy)
        resample.median_interval(values, block, seed=0)
    weights = ([1, 1, 1, 1, 1], [3, 0, 0, 0, 2], [0, 0, 0, 1, 0])
    for got, weight in zip(seen, weights, strict=True):
        copies = np.sort(np.repeat(values, np.array(weight)[block]))
        assert got == copies[(len(copies) - 1) // 2]
