import gc
import json
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace

import numpy as np
import pytest

from fourfold.errors import UsageError
from fourfold.harness import latency
from fourfold.harness.host import host
from fourfold.harness.latency import BURSTS, Plan, measure, measure_openings, summarise
from fourfold.harness.result import Latency


class Machine:
    """A clock that moves only when a call runs or a pause passes."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0
        self.slept = 0.0
        self.calls = 0
        self.rng = np.random.default_rng(seed)

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += round(seconds * 1e9)

    def spend(self, seconds: float) -> None:
        self.calls += 1
        self.now += round(seconds * 1e9)


def _measure(machine: Machine, seconds: float, **limits: float) -> Latency:
    return measure(lambda: machine.spend(seconds), clock=machine.clock, sleep=machine.sleep, **limits)  # pyright: ignore


def _latency(samples_ns: np.ndarray, bursts: tuple[int, ...] = ()) -> Latency:
    return Latency(
        samples_ns, 1, 1, (0,), 5, True, "injected", 0.0, host(), "2026-01-01T00:00:00+00:00", bursts
    )


def test_every_timed_call_is_kept_in_order_and_exact():
    machine = Machine()
    durations: list[int] = []

    def call() -> None:
        spent = int(machine.rng.integers(1_000_000, 2_000_000))
        durations.append(spent)
        machine.now += spent

    found = measure(call, min_seconds=0.2, clock=machine.clock, sleep=machine.sleep, batch=4, threads=2)
    assert found.samples_ns.dtype == np.int64
    assert len(found.bursts) == BURSTS
    # What was called but not kept: the warm-up, and one call after each pause.
    kept = durations[found.warmup_calls : found.warmup_calls + found.bursts[0]]
    assert found.samples_ns[: found.bursts[0]].tolist() == kept
    assert len(durations) == found.warmup_calls + len(found.samples_ns) + BURSTS - 1
    assert (found.batch, found.threads, found.clock, found.overhead_ns) == (4, 2, "injected", 0.0)


@pytest.mark.parametrize(
    ("seconds", "least_seconds", "least_n"), [(0.001, 1.5, 100), (0.1, 1.5, 100), (0.1, 1.5, 300)]
)
def test_minimum_duration_and_minimum_count_both_hold(seconds: float, least_seconds: float, least_n: int):
    found = _measure(Machine(), seconds, min_seconds=least_seconds, min_samples=least_n)
    assert found.samples_ns.sum() / 1e9 >= least_seconds
    assert len(found.samples_ns) >= least_n
    assert found.samples_ns.sum() / 1e9 <= max(least_seconds, least_n * seconds) * 1.2 + BURSTS * seconds


def test_several_openings_share_the_bursts_and_each_is_warmed_up_and_closed():
    machine, log = Machine(), list[str]()

    @contextmanager
    def open_call() -> Generator[Callable[[], None]]:
        log.append("open")
        speed = 0.01 * (1 + 0.1 * len(log))
        yield lambda: machine.spend(speed)
        log.append("close")

    found = measure_openings(
        open_call, openings=4, plan=Plan(min_seconds=1), clock=machine.clock, sleep=machine.sleep
    )
    assert log == ["open", "close"] * 4
    assert len(found.bursts) == BURSTS
    assert found.warmup_calls >= 4 * 10
    assert len(np.unique(found.samples_ns)) == 4
    interval = summarise(found).median_ms
    assert interval.low < 12 < 16 < interval.high + 1, "openings differ, so the interval is wide"


def test_openings_end_at_the_deadline():
    machine = Machine()
    found = measure_openings(
        lambda: nullcontext(lambda: machine.spend(30)), clock=machine.clock, sleep=machine.sleep
    )
    assert len(found.samples_ns) == 2


def test_pauses_stand_between_bursts():
    machine = Machine()
    _measure(machine, 0.001, pause_seconds=0.25)
    assert machine.slept == pytest.approx((BURSTS - 1) * 0.25)


@pytest.mark.parametrize(("seconds", "least"), [(5.0, 8), (100.0, 2)])
def test_very_slow_calls_end_at_the_deadline_with_what_there_is(seconds: float, least: int):
    machine = Machine()
    found = _measure(machine, seconds, max_seconds=60)
    assert len(found.samples_ns) >= least
    assert machine.now / 1e9 <= 60 + 4 * seconds + machine.slept
    assert sum(found.bursts) == len(found.samples_ns)
    assert summarise(found).median_ms.value == pytest.approx(seconds * 1e3)


def test_warm_up_lasts_until_timings_stop_falling():
    machine = Machine()
    found = measure(
        lambda: machine.spend(0.01 * (1 + 10 * 0.9**machine.calls)),
        clock=machine.clock,
        sleep=machine.sleep,
        warmup_seconds=10,
    )
    assert found.steady
    assert found.warmup_calls > 30
    assert found.samples_ns[0] < 1.2 * found.samples_ns[-1]


def test_a_warm_up_that_never_settles_is_recorded():
    machine = Machine()
    found = measure(
        lambda: machine.spend(1e-3 * 1.02**machine.calls),
        clock=machine.clock,
        sleep=machine.sleep,
        max_seconds=3,
        min_seconds=1,
    )
    assert not found.steady


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_off_inside_and_as_before_after(enabled: bool):
    machine = Machine()
    seen: set[bool] = set()

    def call() -> None:
        seen.add(gc.isenabled())
        machine.spend(0.01)

    was = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        measure(call, clock=machine.clock, sleep=machine.sleep)
        assert seen == {False}
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if was else gc.disable()


def test_an_interrupt_passes_and_leaves_the_collector_on():
    machine = Machine()

    def call() -> None:
        machine.spend(0.01)
        if machine.calls == 50:
            raise KeyboardInterrupt

    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt):
        measure(call, clock=machine.clock, sleep=machine.sleep)
    assert gc.isenabled()


@pytest.mark.parametrize(
    "limits", [{"min_samples": 1}, {"min_seconds": 0}, {"min_seconds": 9, "max_seconds": 8}]
)
def test_impossible_limits_are_refused(limits: dict[str, float]):
    with pytest.raises(UsageError, match=r"expected min_samples of 2 or more.*choose other limits"):
        _measure(Machine(), 0.01, **limits)


def test_the_real_clock_measures_a_real_wait():
    found = measure(lambda: sum(range(2000)), min_seconds=0.05, pause_seconds=0, warmup_seconds=0.2)
    assert found.samples_ns.min() > found.overhead_ns > 0
    assert found.overhead_ns < 20_000
    assert "resolution" in found.clock


@pytest.mark.parametrize(("n", "given"), [(28, 0), (29, 1), (59, 2), (299, 3), (2994, 3), (2995, 4)])
def test_percentiles_that_the_samples_do_not_carry_are_refused(n: int, given: int):
    found = summarise(_latency(np.arange(1, n + 1) * 1_000_000))
    assert list(found.percentiles_ms) == ["p90", "p95", "p99", "p99.9"][:given]
    assert list(found.refused) == ["p90", "p95", "p99", "p99.9"][given:]
    assert all(f"there are {n}" in reason for reason in found.refused.values())
    for name, value in found.percentiles_ms.items():
        assert value == pytest.approx(1 + (n - 1) * float(name[1:]) / 100)


def test_the_summary_says_what_the_samples_say():
    samples = np.random.default_rng(0).permutation(np.arange(1_000_000, 1_002_001))
    found = summarise(_latency(samples))
    assert found.n == 2001
    assert found.median_ms.value == pytest.approx(1.001)
    assert found.median_ms.low < 1.001 < found.median_ms.high
    assert (found.mean_ms, found.min_ms) == (pytest.approx(1.001), 1.0)
    assert abs(found.drift) < 0.1
    assert json.loads(json.dumps(asdict(found)))["n"] == 2001


def test_drift_is_seen():
    rising = np.arange(500) * 1000 + np.random.default_rng(0).integers(0, 50_000, 500)
    assert summarise(_latency(rising)).drift > 0.9
    assert summarise(_latency(rising[::-1])).drift < -0.9


def test_summaries_repeat_with_their_seed():
    latency = _latency(np.random.default_rng(3).integers(1_000_000, 2_000_000, 20 * BURSTS), (20,) * BURSTS)
    assert summarise(latency, seed=1) == summarise(latency, seed=1)
    assert summarise(replace(latency, bursts=()), seed=1).median_ms == summarise(latency, seed=1).median_ms


def test_two_samples_give_an_interval_between_them():
    found = summarise(_latency(np.array([1_000_000, 3_000_000])))
    assert found.median_ms.low <= 2 <= found.median_ms.high


def _drifting(machine: Machine, tau: float, size: float) -> Latency:
    state = {"x": machine.rng.standard_normal(), "at": machine.now}

    def call() -> None:
        keep = math.exp(-(machine.now - state["at"]) / 1e9 / tau)
        state["x"] = keep * state["x"] + math.sqrt(1 - keep**2) * machine.rng.standard_normal()
        state["at"] = machine.now
        machine.spend(0.004 * math.exp(size * state["x"] + 0.01 * machine.rng.standard_normal()))

    return measure(call, clock=machine.clock, sleep=machine.sleep)


@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_measured_twice_the_intervals_overlap_on_a_machine_that_drifts(
    tau: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(latency.gc, "collect", lambda: 0)
    overlaps, widths = 0, list[float]()
    for seed in range(12):
        machine = Machine(seed)
        first = summarise(_drifting(machine, tau, 0.05)).median_ms
        machine.sleep(30)
        second = summarise(_drifting(machine, tau, 0.05)).median_ms
        overlaps += first.low <= second.high and second.low <= first.high
        widths.append((first.high - first.low) / 2 / first.value)
    assert overlaps >= 11
    assert np.mean(widths) < 0.12, "an interval that wide says nothing"


def test_a_quiet_machine_gets_a_narrow_interval():
    found = summarise(_drifting(Machine(), 1.0, 0.0)).median_ms
    assert found.low < found.value < found.high
    assert (found.high - found.low) / found.value < 0.01
