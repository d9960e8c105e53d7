"""Which of two calls is faster, told apart from the machine's own noise.

Slots of calls are taken in blocks A B B A (or B A A B, by lot), in one process. A drift that is linear over a
block cancels in its ratio, because both calls sit at the same mean time:

    block:   log sqrt(B1 B2) - log sqrt(A1 A2)            each letter the median of one slot
    itself:  log sqrt(A1 A4) - log sqrt(A2 A3), same for B, averaged, over two neighbouring blocks

The second line compares each call with itself in the same form and with the same number of slots, so its
interval is the noise floor: a difference that is not larger is nothing.

Two openings of one file truly differ, by where their memory lies and where their threads run. So both
networks are opened several times, and the ratio's interval is at least as wide as its spread over openings.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array
from .host import affinity, host
from .judgement import Outcome, judge, sentence
from .latency import Call, Clock, clock_name, quiet, time_calls, warm_up
from .resample import midmean_interval
from .result import Host, Interval

Open = Callable[[], AbstractContextManager[Call]]

ABBA = (0, 1, 1, 0)
SLOT_SECONDS = 0.02
WARMUP_SECONDS = 0.5
MAX_SLOT_CALLS = 200
# A slower call refills its caches in a small part of itself, and to discard one would cost too much.
COLD_SECONDS = 0.25
MIN_BLOCKS = 20
# Taken even when the time is over: with fewer blocks an interval is a guess.
FEWEST_BLOCKS = 6


@dataclass(frozen=True)
class Comparison:
    """Call b against call a, with every raw sample."""

    labels: tuple[str, str]
    """What a and b are called."""
    samples_ns: Array
    """(blocks, 4, calls) int64: the timed calls of each slot, in the order taken."""
    order: Array
    """(blocks, 4) int8: 0 where a slot ran a, 1 where it ran b."""
    medians_ms: tuple[float, float]
    """Of all samples of a and of b."""
    opening: Array
    """(blocks,) number of the opening that a block was taken in."""
    ratio: Interval
    """Time of b over time of a; below 1 when b is faster."""
    itself: Interval
    """The same ratio of each call to itself, from the same samples: 1 but for noise."""
    noise_floor: float
    """Largest deviation from 1 that ``itself`` allows."""
    margin: float
    """Differences inside it count as none; at least the noise floor."""
    verdict: Outcome
    """Of b, seen from a."""
    sentence: str
    clock: str
    affinity: tuple[int, ...]
    host: Host
    started: str
    """UTC time, ISO 8601."""

    def summary(self) -> dict[str, object]:
        """Return everything but the raw samples, ready for JSON."""
        return {
            "labels": list(self.labels),
            "verdict": self.verdict,
            "sentence": self.sentence,
            "ratio": vars(self.ratio),
            "itself": vars(self.itself),
            "noise_floor": self.noise_floor,
            "margin": self.margin,
            "medians_ms": list(self.medians_ms),
            "blocks": self.samples_ns.shape[0],
            "openings": len(np.unique(self.opening)),
            "calls_per_slot": self.samples_ns.shape[2],
            "clock": self.clock,
            "affinity": list(self.affinity),
            "started": self.started,
        }


def compare_calls(
    a: Call,
    b: Call,
    *,
    labels: tuple[str, str] = ("a", "b"),
    margin: float = 0.02,
    min_seconds: float = 10.0,
    max_seconds: float | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Compare two calls that are open already; see ``compare_openings``, which is harder to fool.

    Args:
        a: The first call; returns when the device has finished.
        b: The second call.
        labels: What they are called in the sentence.
        margin: Relative difference that does not matter.
        min_seconds: Least duration.
        max_seconds: Time after which sampling ends.
        seed: Seed of the order of blocks and of the bootstrap.
        clock: Monotonic nanoseconds.
    """
    return compare_openings(
        lambda: nullcontext(a),
        lambda: nullcontext(b),
        openings=1,
        labels=labels,
        margin=margin,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        seed=seed,
        clock=clock,
    )


def compare_openings(
    open_a: Open,
    open_b: Open,
    *,
    openings: int = 6,
    labels: tuple[str, str] = ("a", "b"),
    margin: float = 0.02,
    min_seconds: float = 10.0,
    max_seconds: float | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Time two networks interleaved, over several openings, and say which is faster if that can be said.

    Args:
        open_a: Opens the first network and gives one inference that returns when the device has finished.
        open_b: Opens the second.
        openings: How often both are opened.
        labels: What they are called in the sentence.
        margin: Relative difference that does not matter; the noise floor replaces it where that is larger.
        min_seconds: Least duration; at least ``MIN_BLOCKS`` blocks are taken whatever it says.
        max_seconds: Time after which sampling ends even with fewer blocks, down to ``FEWEST_BLOCKS``; None
            for two minutes, or three times ``min_seconds`` where that is more.
        seed: Seed of the order of blocks and of the bootstrap.
        clock: Monotonic nanoseconds.

    Returns:
        The verdict on b with the ratio b / a, its interval, and the noise floor of the same run.
    """
    max_seconds = max(120.0, 3 * min_seconds) if max_seconds is None else max_seconds
    if margin < 0 or not 0 < min_seconds <= max_seconds:
        message = (
            "expected a margin of 0 or more and 0 < min_seconds <= max_seconds, "
            f"got {margin}, {min_seconds} and {max_seconds}; choose other limits"
        )
        raise UsageError(message)
    machine, started = host(), datetime.now(UTC).isoformat(timespec="seconds")
    limits = _Limits(min_seconds / openings, max_seconds / openings, openings)
    rng, taken = np.random.default_rng(seed), list[_Taken]()
    with quiet():
        for _ in range(openings):
            with open_a() as a, open_b() as b:
                calls = None if not taken else taken[0].samples.shape[2]
                taken.append(_take((a, b), limits, calls, rng, clock))
    samples = np.concatenate([t.samples for t in taken])
    order = np.concatenate([t.order for t in taken])
    opening = np.repeat(np.arange(len(taken)), [len(t.samples) for t in taken])
    ratio, itself = ratios(samples, order, opening, seed=seed)
    floor = max(1 - itself.low, itself.high - 1)
    wide = max(margin, floor)
    verdict = judge(ratio, noise_floor=floor, margin=margin)
    return Comparison(
        labels=labels,
        samples_ns=samples,
        order=order,
        medians_ms=_medians_ms(samples, order),
        opening=opening,
        ratio=ratio,
        itself=itself,
        noise_floor=floor,
        margin=wide,
        verdict=verdict,
        sentence=sentence(verdict, labels, ratio, floor, wide, len(samples)),
        clock=clock_name(clock),
        affinity=affinity(),
        host=machine,
        started=started,
    )


def ratios(samples_ns: Array, order: Array, opening: Array, *, seed: int) -> tuple[Interval, Interval]:
    """Return the ratio b / a and the ratio of each to itself, with 95 % intervals over blocks.

    Args:
        samples_ns: (blocks, 4, calls).
        order: (blocks, 4), 0 for a and 1 for b; two of each in a row.
        opening: (blocks,) number of the opening of each block.
        seed: Seed of the bootstrap.
    """
    slots = np.log(np.maximum(np.median(samples_ns, axis=2), 1.0))
    a = slots[order == 0].reshape(-1, 2)
    b = slots[order == 1].reshape(-1, 2)
    pairs = len(a) // 2 * 2
    own = (_against_itself(a[:pairs]) + _against_itself(b[:pairs])) / 2
    one = np.zeros(
        len(own), np.int64
    )  # of noise within openings only: what differs between them is in the ratio
    return _interval((b - a).mean(axis=1), opening, seed), _interval(own, one, seed + 1)


@dataclass(frozen=True)
class _Limits:
    """The share of one opening."""

    min_seconds: float
    max_seconds: float
    openings: int

    def reached(self, blocks: int, seconds: float) -> bool:
        wanted = MIN_BLOCKS if seconds < self.max_seconds else FEWEST_BLOCKS
        return seconds >= self.min_seconds and blocks * self.openings >= wanted


@dataclass(frozen=True)
class _Taken:
    samples: Array
    order: Array


def _take(
    calls: tuple[Call, Call], limits: _Limits, per_slot: int | None, rng: np.random.Generator, clock: Clock
) -> _Taken:
    """Take the blocks of one opening, with ``per_slot`` calls a slot or as many as fit."""
    slowest = 0.0
    for call in calls:
        warm_up(call, clock, limit_seconds=max(limits.min_seconds / 4, WARMUP_SECONDS))
        slowest = max(slowest, float(np.median(time_calls(call, 3, clock))) / 1e9)
    count = per_slot or int(np.clip(SLOT_SECONDS / max(slowest, 1e-9), 1, MAX_SLOT_CALLS))
    start = clock()
    samples: list[Array] = []
    order: list[tuple[int, ...]] = []
    while not limits.reached(len(samples), (clock() - start) / 1e9):
        swap = int(rng.integers(2))
        order.append(tuple(which ^ swap for which in ABBA))
        samples.append(np.stack([_slot(calls[i], count, slowest < COLD_SECONDS, clock) for i in order[-1]]))
    return _Taken(np.stack(samples), np.array(order, np.int8))


def _slot(call: Call, count: int, discard: bool, clock: Clock) -> Array:
    if discard:
        call()  # the other call has filled the caches
    return time_calls(call, count, clock)


def _against_itself(slots: Array) -> Array:
    """Compare outer with inner slots of neighbouring blocks.

    Args:
        slots: (blocks, 2) log medians of one call, an even number of blocks.

    Returns:
        (blocks / 2,) log ratios.
    """
    four = slots.reshape(-1, 4)
    return (four[:, 0] + four[:, 3] - four[:, 1] - four[:, 2]) / 2


def _interval(logs: Array, opening: Array, seed: int) -> Interval:
    """Return exp of the midmean of (k,) log ratios, with its interval."""
    found = midmean_interval(logs, opening, seed=seed)
    return Interval(*(float(np.exp(v)) for v in (found.value, found.low, found.high)))


def _medians_ms(samples: Array, order: Array) -> tuple[float, float]:
    a, b = (float(np.median(samples[order == which])) / 1e6 for which in (0, 1))
    return a, b
