"""The one stopwatch: every engine is timed here, and nowhere else.

Calls are timed one by one in many short bursts with pauses between them. One contiguous run sees one mood of
a shared machine and believes it; bursts spread over the wall time see several, and their spread is what the
interval of the median is made of.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array
from .host import affinity, host
from .result import Interval, Latency, LatencySummary
from .stats import smallest_n_for_percentile, spearman, widest_interval

Clock = Callable[[], int]
"""Monotonic time in nanoseconds."""
Call = Callable[[], object]
"""One inference that returns when the device has finished."""

PERCENTILES = {"p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
BURSTS = 24
WINDOW_CALLS = 5
WINDOW_SECONDS = 0.05
STEADY_WITHIN = 0.05
EMPTY_CALLS = 1000
# Block lengths in bursts: from one, up to a third of all, where slow drift shows.
BLOCK_LENGTHS = (1, 2, 4, 8)
# Fine enough that an interval's end is a twentieth of a percent of the ranks from the exact one.
RANK_CELLS = 2000


def measure(
    call: Call,
    *,
    min_seconds: float = 3.0,
    max_seconds: float = 60.0,
    min_samples: int = 100,
    warmup_seconds: float = 2.0,
    pause_seconds: float = 0.2,
    batch: int = 1,
    threads: int = 1,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Latency:
    """Time a call until both the minimum duration and the minimum number of samples are reached.

    Args:
        call: One inference that returns when the device has finished.
        min_seconds: Least total of timed calls.
        max_seconds: Time after which sampling ends anyway, pauses included (a started call is finished).
        min_samples: Least number of timed calls.
        warmup_seconds: Longest warm-up; it ends earlier once two windows in a row agree.
        pause_seconds: Idle time between bursts.
        batch: Samples per call, recorded.
        threads: Threads the engine was told to use, recorded.
        clock: Monotonic nanoseconds.
        sleep: Waits for seconds.

    Returns:
        Every raw sample in order, and the facts needed to judge them.
    """
    if min_samples < 2 or not 0 < min_seconds <= max_seconds:
        message = (
            "expected min_samples of 2 or more and 0 < min_seconds <= max_seconds, "
            f"got {min_samples}, {min_seconds} and {max_seconds}; choose other limits"
        )
        raise UsageError(message)
    machine, started = host(), datetime.now(UTC).isoformat(timespec="seconds")
    with quiet():
        overhead = float(np.median(time_calls(_empty, EMPTY_CALLS, clock)))
        warmup_calls, steady = warm_up(call, clock, limit_seconds=warmup_seconds)
        bursts = _bursts(call, _Plan(min_seconds, max_seconds, min_samples, pause_seconds), clock, sleep)
    return Latency(
        samples_ns=np.concatenate(bursts),
        batch=batch,
        threads=threads,
        affinity=affinity(),
        warmup_calls=warmup_calls,
        steady=steady,
        clock=clock_name(clock),
        overhead_ns=overhead,
        host=machine,
        started=started,
        bursts=tuple(len(burst) for burst in bursts),
    )


def summarise(latency: Latency, *, seed: int = 0) -> LatencySummary:
    """Say what the samples carry, in milliseconds, and refuse what they do not.

    Args:
        latency: The measurement.
        seed: Seed of the bootstrap.
    """
    ms = latency.samples_ns / 1e6
    given, refused = _percentiles(ms)
    return LatencySummary(
        n=len(ms),
        median_ms=_median(ms, _burst_of_sample(latency), seed),
        mean_ms=float(ms.mean()),
        min_ms=float(ms.min()),
        percentiles_ms=given,
        refused=refused,
        drift=spearman(np.arange(len(ms)), ms),
        batch=latency.batch,
        threads=latency.threads,
        affinity=latency.affinity,
        warmup_calls=latency.warmup_calls,
        steady=latency.steady,
        clock=latency.clock,
        overhead_ns=latency.overhead_ns,
        host=latency.host,
        started=latency.started,
    )


@contextmanager
def quiet() -> Generator[None]:
    """Keep the garbage collector out of the timings, and put it back as it was."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def time_calls(call: Call, count: int, clock: Clock) -> Array:
    """Time each of ``count`` calls.

    Returns:
        (count,) int64 nanoseconds, in order.
    """
    samples = np.empty(count, np.int64)
    for i in range(count):
        start = clock()
        call()
        samples[i] = clock() - start
    return samples


def warm_up(call: Call, clock: Clock, *, limit_seconds: float) -> tuple[int, bool]:
    """Call until the medians of two windows in a row agree, or the limit passes.

    Returns:
        The number of calls made, and whether the windows agreed.
    """
    deadline = clock() + round(limit_seconds * 1e9)
    calls, before = 0, math.inf
    while True:
        window = _window(call, clock, deadline)
        calls += len(window)
        median = float(np.median(window))
        if len(window) >= WINDOW_CALLS and abs(median - before) <= STEADY_WITHIN * median:
            return calls, True
        if clock() >= deadline:
            return calls, False
        before = median


def clock_name(clock: Clock) -> str:
    """Name a clock for reports, with its resolution where that is known."""
    if clock is not time.perf_counter_ns:
        return "injected"
    return f"perf_counter_ns, resolution {time.get_clock_info('perf_counter').resolution * 1e9:g} ns"


@dataclass(frozen=True)
class _Plan:
    min_seconds: float
    max_seconds: float
    min_samples: int
    pause_seconds: float

    @property
    def burst_ns(self) -> float:
        return self.min_seconds * 1e9 / BURSTS

    @property
    def burst_calls(self) -> int:
        return math.ceil(self.min_samples / BURSTS)


def _bursts(call: Call, plan: _Plan, clock: Clock, sleep: Callable[[float], None]) -> list[Array]:
    """Take the bursts; at least two samples, however slow a call is."""
    deadline = clock() + round(plan.max_seconds * 1e9)
    bursts: list[Array] = []
    for number in range(BURSTS):
        if number > 0:
            sleep(plan.pause_seconds)
            call()  # caches and clock frequency went cold in the pause
        bursts.append(_burst(call, plan, clock, deadline))
        if clock() >= deadline:
            break
    return bursts if sum(map(len, bursts)) > 1 else [*bursts, time_calls(call, 1, clock)]


def _burst(call: Call, plan: _Plan, clock: Clock, deadline: int) -> Array:
    samples: list[int] = []
    total = 0
    while total < plan.burst_ns or len(samples) < plan.burst_calls:
        start = clock()
        call()
        end = clock()
        samples.append(end - start)
        total += end - start
        if end >= deadline:
            break
    return np.array(samples, np.int64)


def _window(call: Call, clock: Clock, deadline: int) -> list[int]:
    """Time calls for one warm-up window; it is cut short by the deadline."""
    samples: list[int] = []
    total = 0
    while len(samples) < WINDOW_CALLS or total < WINDOW_SECONDS * 1e9:
        start = clock()
        call()
        end = clock()
        samples.append(end - start)
        total += end - start
        if end >= deadline:
            break
    return samples


def _empty() -> None:
    """Do nothing: timing it shows what timing costs."""


def _burst_of_sample(latency: Latency) -> Array:
    """Return the (n,) burst number of each sample; a single long burst is cut into equal parts."""
    n = len(latency.samples_ns)
    if len(latency.bursts) > 1:
        return np.repeat(np.arange(len(latency.bursts)), latency.bursts)
    return np.arange(n) * min(BURSTS, n) // n


def _median(ms: Array, burst: Array, seed: int) -> Interval:
    """Return the median with an interval from resampling whole bursts."""
    k = int(burst[-1]) + 1
    value = float(np.median(ms))
    if k < 2:
        return Interval(value, float(ms.min()), float(ms.max()))
    last, below = _rank_cells(ms, burst, k)

    def medians(drawn: Array) -> Array:
        # A burst weighs as often as it was drawn; the median is where half the weight lies below.
        weight = below @ _times_drawn(drawn).T
        return last[(weight < weight[-1] / 2).sum(axis=0)]

    return widest_interval(value, k, medians, lengths=BLOCK_LENGTHS, seed=seed)


def _rank_cells(ms: Array, burst: Array, k: int) -> tuple[Array, Array]:
    """Sort the samples once and cut them into cells of neighbouring ranks, for a bootstrap of any size.

    Args:
        ms: (n,) samples.
        burst: (n,) burst of each, below k.
        k: Number of bursts.

    Returns:
        The largest sample of each cell, (cells,), and how many samples of each burst lie in it or
        below it, (cells, k).
    """
    order = np.argsort(ms, kind="stable")
    cells = min(RANK_CELLS, len(ms))
    cell = np.arange(len(ms)) * cells // len(ms)
    inside = np.zeros((cells, k))
    np.add.at(inside, (cell, burst[order]), 1.0)
    ends = np.searchsorted(cell, np.arange(cells), side="right") - 1
    return ms[order][ends], np.cumsum(inside, axis=0)


def _times_drawn(drawn: Array) -> Array:
    """Count how often each block occurs in each resample: (r, k) indices to (r, k) counts."""
    blocks = range(drawn.shape[1])
    return np.stack([np.count_nonzero(drawn == block, axis=1) for block in blocks], axis=1).astype(np.float64)


def _percentiles(ms: Array) -> tuple[Mapping[str, float], Mapping[str, str]]:
    given: dict[str, float] = {}
    refused: dict[str, str] = {}
    for name, q in PERCENTILES.items():
        need = smallest_n_for_percentile(q)
        if len(ms) >= need:
            given[name] = float(np.quantile(ms, q))
        else:
            refused[name] = f"needs {need} samples, there are {len(ms)}"
    return given, refused
