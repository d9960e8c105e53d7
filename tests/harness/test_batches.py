"""A run of a few batches only, made to take any."""

import numpy as np
import pytest

from fourfold.export.artifact import Feed
from fourfold.harness.batches import in_batches
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.device import Device

INPUTS = (TensorSpec("x", ("batch", 2)), TensorSpec("scale", (2,)))


def device(*batches: int) -> Device:
    return Device("d", "d", "null", "any", batches=batches)


@pytest.mark.parametrize("batches", [(1, 1, 1), (1, 2, 3), (4, 4, 4), (3, 5, 8)])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_every_sample_is_answered_once_and_in_order(batches: tuple[int, ...], count: int) -> None:
    seen: list[int] = []

    def run(feed: Feed) -> Feed:
        seen.append(len(feed["x"]))
        return {"y": feed["x"].sum(1) * feed["scale"][0]}

    feed = {"x": np.random.default_rng(count).normal(size=(count, 2)), "scale": np.array([2.0, 0.0])}
    answer = in_batches(run, INPUTS, device(*batches))(feed)
    np.testing.assert_array_equal(answer["y"], feed["x"].sum(1) * 2)
    assert all(batches[0] <= size <= batches[2] for size in seen)


def test_without_a_range_or_a_free_batch_nothing_changes() -> None:
    def run(feed: Feed) -> Feed:
        return feed

    assert in_batches(run, INPUTS, device()) is run
    assert in_batches(run, (TensorSpec("x", (4, 2)),), device(1, 1, 1)) is run
