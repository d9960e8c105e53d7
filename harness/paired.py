"""Which of two calls is faster, told apart from the machine's own noise.

Slots of calls are taken in blocks A B B A (or B A A B, by lot), in one process. A drift that is linear over a
block cancels in its ratio, because both calls sit at the same mean time:

    block:   log sqrt(B1 B2) - log sqrt(A1 A2)            each letter the median of one slot
    itself:  log sqrt(A1 A4) - log sqrt(A2 A3), same for B, averaged, over two neighbouring blocks

The second line compares each call with itself in the same form and with the same number of slots, so its
interval is the noise floor: a difference that is not larger is nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array
from .host import affinity, host
from .latency import Call, Clock, clock_name, quiet, time_calls, warm_up
from .resample import midmean_interval
from .result import Host, Interval

Outcome = Literal["faster", "slower", "equivalent", "inconclusive"]

ABBA = (0, 1, 1, 0)
SLOT_SECONDS = 0.02
MAX_SLOT_CALLS = 200
# A slower call refills its caches in a small part of itself, and to discard one would cost too much.
COLD_SECONDS = 0.25
MIN_BLOCKS = 20
# A machine that differs from itself by more than this cannot show that two calls are equal.
UNFIT = 0.1
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
    """Time two calls in interleaved blocks and say which is faster, if that can be said.

    Args:
        a: The first call; returns when the device has finished.
        b: The second call.
        labels: What they are called in the sentence.
        margin: Relative difference that does not matter; the noise floor replaces it where that is larger.
            Two openings of one file truly differ, by where their memory lies: a margin below a percent
            or so tells openings apart, not models.
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
    with quiet():
        samples, order = _blocks((a, b), min_seconds, max_seconds, np.random.default_rng(seed), clock)
    ratio, itself = ratios(samples, order, seed=seed)
    floor = max(1 - itself.low, itself.high - 1)
    wide = max(margin, floor)
    verdict = judge(ratio, noise_floor=floor, margin=margin)
    return Comparison(
        labels=labels,
        samples_ns=samples,
        order=order,
        medians_ms=_medians_ms(samples, order),
        ratio=ratio,
        itself=itself,
        noise_floor=floor,
        margin=wide,
        verdict=verdict,
        sentence=_sentence(verdict, labels, ratio, floor, wide, len(samples)),
        clock=clock_name(clock),
        affinity=affinity(),
        host=machine,
        started=started,
    )


def ratios(samples_ns: Array, order: Array, *, seed: int) -> tuple[Interval, Interval]:
    """Return the ratio b / a and the ratio of each to itself, with 95 % intervals over blocks.

    Args:
        samples_ns: (blocks, 4, calls).
        order: (blocks, 4), 0 for a and 1 for b; two of each in a row.
        seed: Seed of the bootstrap.
    """
    slots = np.log(np.maximum(np.median(samples_ns, axis=2), 1.0))
    a = slots[order == 0].reshape(-1, 2)
    b = slots[order == 1].reshape(-1, 2)
    pairs = len(a) // 2 * 2
    own = (_against_itself(a[:pairs]) + _against_itself(b[:pairs])) / 2
    return _interval((b - a).mean(axis=1), seed), _interval(own, seed + 1)


def judge(ratio: Interval, *, noise_floor: float, margin: float) -> Outcome:
    """Turn a ratio into a verdict on b.

    Equivalent when the whole interval lies inside the margin or the noise floor, whichever is larger, unless
    the noise is so large that this says nothing. Faster or slower when the interval leaves out 1 and the
    ratio itself is beyond the noise floor. Inconclusive otherwise.

    Args:
        ratio: Time of b over time of a.
        noise_floor: Relative deviation that a call shows against itself.
        margin: Relative difference that does not matter.
    """
    wide = max(margin, noise_floor)
    if wide <= max(margin, UNFIT) and ratio.low >= 1 / (1 + wide) and ratio.high <= 1 + wide:
        return "equivalent"
    if ratio.high < 1 and ratio.value < 1 / (1 + noise_floor):
        return "faster"
    if ratio.low > 1 and ratio.value > 1 + noise_floor:
        return "slower"
    return "inconclusive"


def _blocks(
    calls: tuple[Call, Call], min_seconds: float, max_seconds: float, rng: np.random.Generator, clock: Clock
) -> tuple[Array, Array]:
    slowest = 0.0
    for call in calls:
        warm_up(call, clock, limit_seconds=min_seconds / 4)
        slowest = max(slowest, float(np.median(time_calls(call, 3, clock))) / 1e9)
    per_slot = int(np.clip(SLOT_SECONDS / max(slowest, 1e-9), 1, MAX_SLOT_CALLS))
    start = clock()
    samples: list[Array] = []
    order: list[tuple[int, ...]] = []
    while True:
        swap = int(rng.integers(2))
        turn = tuple(which ^ swap for which in ABBA)
        slots = [_slot(calls[which], per_slot, slowest < COLD_SECONDS, clock) for which in turn]
        samples.append(np.stack(slots))
        order.append(turn)
        seconds = (clock() - start) / 1e9
        enough = MIN_BLOCKS if seconds < max_seconds else FEWEST_BLOCKS
        if seconds >= min_seconds and len(samples) >= enough:
            return np.stack(samples), np.array(order, np.int8)


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


def _interval(logs: Array, seed: int) -> Interval:
    """Return exp of the midmean of (k,) log ratios, with its interval."""
    found = midmean_interval(logs, seed=seed)
    return Interval(*(float(np.exp(v)) for v in (found.value, found.low, found.high)))


def _medians_ms(samples: Array, order: Array) -> tuple[float, float]:
    a, b = (float(np.median(samples[order == which])) / 1e6 for which in (0, 1))
    return a, b


def _sentence(
    verdict: Outcome, labels: tuple[str, str], ratio: Interval, floor: float, margin: float, blocks: int
) -> str:
    a, b = labels
    between = f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}"
    evidence = f"time ratio {ratio.value:.3f}, {between}, noise floor {floor:.1%}, {blocks} blocks"
    if verdict == "equivalent":
        return f"{b} and {a} are equally fast within {margin:.1%} ({evidence})"
    if verdict == "inconclusive":
        return f"no verdict between {b} and {a}: the difference is lost in the noise ({evidence})"
    return f"{b} is {verdict} than {a}, {_times(ratio.value)} ({evidence})"


def _times(ratio: float) -> str:
    """Say a ratio of times as a person would."""
    if 0.67 < ratio < 1.5:
        return f"taking {abs(1 - ratio):.1%} {'less' if ratio < 1 else 'more'} time"
    return f"by a factor of {max(ratio, 1 / ratio):.2f}"
