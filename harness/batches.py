"""Samples for a device that takes a range of batches only: cut into parts, or filled up, and put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..export.artifact import Array, Feed, Run
from ..models.spec import TensorSpec
from ..runtimes.device import Device


def in_batches(run: Run, inputs: tuple[TensorSpec, ...], device: Device) -> Run:
    """Make a run take any batch.

    Args:
        run: One inference, of the batches in the device's row.
        inputs: What it takes; those that begin with a free ``"batch"`` are cut.
        device: Without a range of batches, nothing changes.
    """
    cut = [spec.name for spec in inputs if spec.shape[:1] == ("batch",)]
    if not device.batches or not cut:
        return run
    least, _, most = device.batches

    def whole(feed: Feed) -> Feed:
        count = len(feed[cut[0]])
        if least <= count <= most:
            return run(feed)
        answers = [_one(run, part, cut, least) for part in _parts(feed, cut, count, most)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    return whole


def _parts(feed: Feed, cut: list[str], count: int, most: int) -> Iterator[Feed]:
    for start in range(0, count, most):
        yield {name: a[start : start + most] if name in cut else a for name, a in feed.items()}


def _one(run: Run, feed: Feed, cut: list[str], least: int) -> Feed:
    """Run one part, filled up with its last sample where it is too small."""
    count = len(feed[cut[0]])
    missing = max(0, least - count)
    filled = {name: _filled(a, missing) if name in cut else a for name, a in feed.items()}
    return {name: answer[:count] for name, answer in run(filled).items()}


def _filled(array: Array, missing: int) -> Array:
    return np.concatenate([array, *[array[-1:]] * missing]) if missing else array
