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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array
from .host import affinity, host
from .resample import median_interval
from .result import Latency, LatencySummary
from .stats import smallest_n_for_percentile, spearman

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


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    min_seconds: float = 3.0
    """Least total of timed calls."""
    max_seconds: float | None = None
    """Time after which sampling ends anyway, pauses included; None for a minute, or three times
    ``min_seconds`` where that is more. A call that was started is finished."""
    min_samples: int = 100
    """Least number of timed calls."""
    warmup_seconds: float = 2.0
    """Longest warm-up; it ends earlier once two windows in a row agree."""
    pause_seconds: float = 0.2
    """Idle time between bursts."""

    def __post_init__(self) -> None:
        if self.min_samples < 2 or not 0 < self.min_seconds <= self.limit_seconds:
            message = (
                "expected min_samples of 2 or more and 0 < min_seconds <= max_seconds, "
                f"got {self.min_samples}, {self.min_seconds} and {self.max_seconds}; choose other limits"
            )
            raise UsageError(message)

    @property
    def limit_seconds(self) -> float:
        """``max_seconds``, or what stands for it."""
        return max(60.0, 3 * self.min_seconds) if self.max_seconds is None else self.max_seconds

    @property
    def burst_ns(self) -> float:
        """Least total of timed calls in one burst."""
        return self.min_seconds * 1e9 / BURSTS

    @property
    def burst_calls(self) -> int:
        """Least number of timed calls in one burst."""
        return math.ceil(self.min_samples / BURSTS)


def measure(
    call: Call,
    *,
    min_seconds: float = 3.0,
    max_seconds: float | None = None,
    min_samples: int = 100,
    warmup_seconds: float = 2.0,
    pause_seconds: float = 0.2,
    batch: int = 1,
    threads: int = 1,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Latency:
    """Time one opening of a network; see ``measure_openings``, and ``Plan`` for the limits.

    Args:
        call: One inference that returns when the device has finished.
        min_seconds: Least total of timed calls.
        max_seconds: Time after which sampling ends anyway.
        min_samples: Least number of timed calls.
        warmup_seconds: Longest warm-up.
        pause_seconds: Idle time between bursts.
        batch: Samples per call, recorded.
        threads: Threads the engine was told to use, recorded.
        clock: Monotonic nanoseconds.
        sleep: Waits for seconds.
    """
    return measure_openings(
        lambda: nullcontext(call),
        openings=1,
        plan=Plan(min_seconds, max_seconds, min_samples, warmup_seconds, pause_seconds),
        batch=batch,
        threads=threads,
        clock=clock,
        sleep=sleep,
    )


def measure_openings(
    open_call: Callable[[], AbstractContextManager[Call]],
    *,
    openings: int = 6,
    plan: Plan | None = None,
    batch: int = 1,
    threads: int = 1,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Latency:
    """Time a network over several openings until the least duration and number of samples are reached.

    One opening of a file is faster than the next by where its memory happens to lie. A latency that should
    come out the same tomorrow is therefore measured over several, each with its share of the bursts.

    Args:
        open_call: Opens the network and gives one inference that returns when the device has finished.
        openings: How often to open it.
        plan: How long to measure.
        batch: Samples per call, recorded.
        threads: Threads the engine was told to use, recorded.
        clock: Monotonic nanoseconds.
        sleep: Waits for seconds.

    Returns:
        Every raw sample in order, and the facts needed to judge them.
    """
    plan = plan or Plan()
    machine, started = host(), datetime.now(UTC).isoformat(timespec="seconds")
    deadline = clock() + round(plan.limit_seconds * 1e9)
    bursts: list[Array] = []
    warmed: list[tuple[int, bool]] = []
    with quiet():
        overhead = float(np.median(time_calls(_empty, EMPTY_CALLS, clock)))
        for share in np.array_split(np.arange(BURSTS), openings):
            with open_call() as call:
                warmed.append(warm_up(call, clock, limit_seconds=plan.warmup_seconds))
                bursts += _bursts(call, plan, len(share), deadline, clock, sleep)
            if clock() >= deadline:
                break
    return Latency(
        samples_ns=np.concatenate(bursts),
        batch=batch,
        threads=threads,
        affinity=affinity(),
        warmup_calls=sum(calls for calls, _ in warmed),
        steady=all(steady for _, steady in warmed),
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
        median_ms=median_interval(ms, _burst_of_sample(latency), seed=seed),
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
        window = _time_until(
            call, clock, calls=WINDOW_CALLS, total_ns=WINDOW_SECONDS * 1e9, deadline=deadline, least=1
        )
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


def _bursts(
    call: Call, plan: Plan, count: int, deadline: int, clock: Clock, sleep: Callable[[float], None]
) -> list[Array]:
    """Take bursts until their number or the deadline is reached; the first has two samples at least."""
    bursts = [_burst(call, plan, clock, deadline, least=2)]
    while len(bursts) < count and clock() < deadline:
        sleep(plan.pause_seconds)
        call()  # caches and clock frequency went cold in the pause
        bursts.append(_burst(call, plan, clock, deadline, least=1))
    return bursts


def _burst(call: Call, plan: Plan, clock: Clock, deadline: int, *, least: int) -> Array:
    calls = max(least, plan.burst_calls)
    return _time_until(call, clock, calls=calls, total_ns=plan.burst_ns, deadline=deadline, least=least)


def _time_until(
    call: Call, clock: Clock, *, calls: int, total_ns: float, deadline: int, least: int = 1
) -> Array:
    """Time calls until there are enough and they took long enough, or the deadline has passed.

    Returns:
        (n,) int64 nanoseconds, n at least ``least``.
    """
    samples: list[int] = []
    total, end = 0, clock()
    while (total < total_ns or len(samples) < calls) and (end < deadline or len(samples) < least):
        start = clock()
        call()
        end = clock()
        samples.append(end - start)
        total += end - start
    return np.array(samples, np.int64)


def _empty() -> None:
    """Do nothing: timing it shows what timing costs."""


def _burst_of_sample(latency: Latency) -> Array:
    """Return the (n,) burst number of each sample; a single long burst is cut into equal parts."""
    n = len(latency.samples_ns)
    if len(latency.bursts) > 1:
        return np.repeat(np.arange(len(latency.bursts)), latency.bursts)
    return np.arange(n) * min(BURSTS, n) // n


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
