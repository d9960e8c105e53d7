from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fourfold.calibration.histogram import BINS, Histogram
from fourfold.calibration.observers import OBSERVERS, MeanSquare, MinMax, Percentile
from fourfold.errors import BuildError

numbers = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
batches = st.lists(arrays(np.float32, st.integers(1, 40), elements=numbers), min_size=1, max_size=6)
each = pytest.mark.parametrize("name", sorted(OBSERVERS))


@each
@given(data=batches, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_data_does_not_matter(name: str, data: list[np.ndarray], seed: int):
    one, other = OBSERVERS[name](), OBSERVERS[name]()
    for array in data:
        one.update(array)
    shuffled = np.random.default_rng(seed).permutation(np.concatenate(data))
    for array in np.array_split(shuffled, min(3, len(shuffled))):
        other.update(array)
    assert one.range() == pytest.approx(other.range(), rel=1e-6, abs=1e-12)


@each
@given(data=batches)
@settings(max_examples=40, deadline=None)
def test_a_range_never_reaches_past_what_was_seen(name: str, data: list[np.ndarray]):
    observer = OBSERVERS[name]()
    for array in data:
        observer.update(array)
    low, high = observer.range()
    everything = np.concatenate(data)
    assert everything.min() <= low or low == pytest.approx(0.0) or low * everything.min() > 0
    assert low <= high
    assert max(abs(low), abs(high)) <= np.abs(everything).max() * (1 + 1e-6)


@given(data=batches)
@settings(max_examples=60, deadline=None)
def test_a_histogram_that_widened_equals_one_of_full_reach(data: list[np.ndarray]):
    grown, ready = Histogram(), Histogram()
    for array in data:
        grown.update(array)
    ready.update(np.concatenate(data))
    assert grown.reach == ready.reach
    if grown.reach:
        np.testing.assert_array_equal(grown.counts, ready.counts)
        assert grown.counts.sum() == sum(a.size for a in data)


@each
def test_memory_does_not_grow_with_the_data(name: str):
    observer = OBSERVERS[name]()
    rng = np.random.default_rng(0)

    def held() -> int:
        parts = [observer, *vars(observer).values()]
        histogram = vars(observer).get("_histogram")
        parts += list(vars(histogram).values()) if histogram else []
        return sum(sys.getsizeof(p) for p in parts)

    observer.update(rng.standard_normal(100).astype(np.float32))
    before = held()
    for _ in range(50):
        observer.update((rng.standard_normal(10_000) * 100).astype(np.float32))
    assert held() <= before + 64
    assert before < BINS * 8 + 4096


@each
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_a_constant_tensor_keeps_its_value(name: str, value: float):
    observer = OBSERVERS[name]()
    observer.update(np.full((4, 4), value, np.float32))
    assert observer.range() == (value, value)


@each
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_refused(name: str, value: float):
    with pytest.raises(BuildError, match="finite"):
        OBSERVERS[name]().update(np.array([1.0, value], np.float32))


@each
def test_nothing_seen_is_an_error(name: str):
    with pytest.raises(BuildError, match="at least one value"):
        OBSERVERS[name]().range()


def test_percentile_leaves_out_a_lone_outlier_and_minmax_does_not():
    values = np.append(np.random.default_rng(0).uniform(-1, 1, 100_000), 900.0).astype(np.float32)
    whole, most = MinMax(), Percentile(99.9)
    whole.update(values)
    most.update(values)
    assert whole.range()[1] == 900.0
    low, high = most.range()
    # At reach 1024 a bin is a quarter wide, so the ends are known to that.
    assert low == pytest.approx(-1.0, abs=0.25)
    assert high == pytest.approx(1.0, abs=0.25)


def test_percentile_agrees_with_numpy():
    values = np.random.default_rng(1).standard_normal(200_000).astype(np.float32)
    observer = Percentile(99.0)
    for part in np.array_split(values, 7):
        observer.update(part)
    assert observer.range() == pytest.approx(tuple(np.percentile(values, [0.5, 99.5])), abs=0.01)


def test_a_percentile_without_meaning_is_refused():
    with pytest.raises(BuildError, match="percentile"):
        Percentile(40.0)


def test_mean_square_beats_the_whole_range_on_heavy_tails():
    values = np.random.default_rng(2).standard_t(3, 50_000).astype(np.float32)
    observer = MeanSquare()
    observer.update(values)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(
            np.mean((values - np.clip(np.round(values / step), low / step, high / step) * step) ** 2)
        )

    low, high = observer.range()
    assert values.min() < low < 0 < high < values.max()
    assert error(low, high) < 0.9 * error(float(values.min()), float(values.max()))
