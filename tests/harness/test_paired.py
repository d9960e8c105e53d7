import json
import math
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest

from fourfold.errors import UsageError
from fourfold.harness import latency
from fourfold.harness.judgement import judge
from fourfold.harness.paired import (
    FEWEST_BLOCKS,
    MIN_BLOCKS,
    Comparison,
    compare_calls,
    compare_openings,
    ratios,
)
from fourfold.harness.result import Interval

QUIET = {"white": 0.01, "drift": 0.01, "tau": 1.0, "busy": 0.0}
DRIFTING = {"white": 0.03, "drift": 0.08, "tau": 2.0, "busy": 0.0}
BURSTY = {"white": 0.03, "drift": 0.03, "tau": 1.0, "busy": 0.3}


class Machine:
    """A clock that moves when a call runs, at a speed that drifts and that neighbours disturb."""

    def __init__(self, seed: int, *, white: float, drift: float, tau: float, busy: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.now, self.busy_until = 0, 0
        self.state = float(self.rng.standard_normal())
        self.white, self.drift, self.tau, self.busy = white, drift, tau, busy

    def clock(self) -> int:
        return self.now

    def spend(self, seconds: float) -> None:
        if self.now > self.busy_until and self.rng.random() < self.busy * seconds:
            self.busy_until = self.now + round(self.rng.exponential(0.3) * 1e9)
        slow = math.exp(self.drift * self.state + self.white * self.rng.standard_normal())
        slow *= 1.4 if self.now < self.busy_until else 1.0
        slow *= 1 + self.rng.exponential() if self.rng.random() < 0.01 else 1.0
        keep = math.exp(-seconds * slow / self.tau)
        self.state = keep * self.state + math.sqrt(1 - keep**2) * float(self.rng.standard_normal())
        self.now += round(seconds * slow * 1e9)


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch: pytest.MonkeyPatch):
    # Hundreds of simulated runs in one test: collecting garbage before each takes most of the time.
    monkeypatch.setattr(latency.gc, "collect", lambda: 0)


def _compare(seed: int, noise: dict[str, float], ratio: float, seconds: float = 0.012) -> Comparison:
    machine = Machine(seed, **noise)
    return compare_calls(
        lambda: machine.spend(seconds), lambda: machine.spend(seconds * ratio), seed=seed, clock=machine.clock
    )


def _verdicts(noise: dict[str, float], ratio: float, runs: int) -> Counter[str]:
    return Counter(_compare(seed, noise, ratio).verdict for seed in range(runs))


@pytest.mark.parametrize("noise", [DRIFTING, BURSTY], ids=["drifting", "bursty"])
def test_a_call_is_not_told_apart_from_itself(noise: dict[str, float]):
    found = _verdicts(noise, 1.0, 40)
    assert found["faster"] + found["slower"] <= 2, found


def test_three_percent_is_found():
    assert _verdicts(QUIET, 1.03, 20)["slower"] >= 19
    assert _verdicts(DRIFTING, 1 / 1.03, 40)["faster"] >= 36


@pytest.mark.slow
@pytest.mark.parametrize("noise", [QUIET, DRIFTING, BURSTY], ids=["quiet", "drifting", "bursty"])
def test_error_rates_over_many_runs(noise: dict[str, float]):
    same = _verdicts(noise, 1.0, 200)
    assert same["faster"] + same["slower"] <= 10, same
    if noise is not BURSTY:
        assert _verdicts(noise, 1.03, 100)["slower"] >= 90
        assert _verdicts(noise, 1 / 1.03, 100)["faster"] >= 90


def test_the_interval_covers_the_true_ratio():
    found = [_compare(seed, DRIFTING, 1.1).ratio for seed in range(40)]
    assert sum(r.low <= 1.1 <= r.high for r in found) >= 36
    assert all(r.high - r.low < 0.1 for r in found)


def test_openings_that_differ_are_not_taken_for_networks_that_differ():
    def compare(seed: int, openings: int) -> Comparison:
        machine = Machine(seed, **QUIET)
        draw = np.random.default_rng(seed)

        def opened():
            # Where memory lies makes one opening up to some percent faster than the next.
            seconds = 0.012 * math.exp(0.04 * draw.standard_normal())
            return nullcontext(lambda: machine.spend(seconds))

        return compare_openings(opened, opened, openings=openings, seed=seed, clock=machine.clock)

    several = [compare(seed, 6) for seed in range(30)]
    assert sum(c.verdict in ("faster", "slower") for c in several) <= 2
    assert {c.summary()["openings"] for c in several} == {6}
    assert all(len(c.opening) == len(c.samples_ns) for c in several)
    alone = [compare(seed, 1).verdict for seed in range(15)]
    assert sum(v in ("faster", "slower") for v in alone) > 4, "one opening should be fooled here"


def test_a_linear_drift_cancels():
    now = 0

    def spend(ns: float) -> None:
        nonlocal now
        now += round(ns * (1 + now / 40e9))

    found = compare_calls(lambda: spend(1e7), lambda: spend(1.2e7), clock=lambda: now)
    assert found.ratio.value == pytest.approx(1.2, rel=2e-3)
    assert found.itself.value == pytest.approx(1, rel=2e-3)
    assert found.verdict == "slower"


def test_all_raw_samples_are_kept_with_the_order_they_were_taken_in():
    ran: list[tuple[int, int]] = []
    now = 0
    rng = np.random.default_rng(0)

    def run(which: int) -> None:
        nonlocal now
        ran.append((which, int(rng.integers(1_000_000, 1_100_000))))
        now += ran[-1][1]

    found = compare_calls(lambda: run(0), lambda: run(1), min_seconds=1, clock=lambda: now)
    blocks, slots, calls = found.samples_ns.shape
    assert slots == 4
    assert blocks >= MIN_BLOCKS
    assert {tuple(row) for row in found.order.tolist()} == {(0, 1, 1, 0), (1, 0, 0, 1)}
    # Each slot begins with one call that is not kept.
    tail = ran[-blocks * 4 * (calls + 1) :]
    slots_run = [tail[i : i + calls + 1] for i in range(0, len(tail), calls + 1)]
    assert [slot[0][0] for slot in slots_run] == found.order.ravel().tolist()
    assert [[ns for _, ns in slot[1:]] for slot in slots_run] == found.samples_ns.reshape(-1, calls).tolist()


def test_very_slow_calls_end():
    machine = Machine(0, **QUIET)
    found = compare_calls(lambda: machine.spend(4), lambda: machine.spend(6), clock=machine.clock)
    assert len(found.samples_ns) == FEWEST_BLOCKS
    assert machine.now / 1e9 < 220
    assert (found.verdict, found.samples_ns.shape[2]) == ("slower", 1)
    assert "taking 49.3% more time" in found.sentence


def test_calls_of_very_different_speed_share_a_slot_size():
    machine = Machine(0, **QUIET)
    found = compare_calls(lambda: machine.spend(0.0005), lambda: machine.spend(0.05), clock=machine.clock)
    assert found.ratio.value == pytest.approx(100, rel=0.02)
    assert found.medians_ms == (pytest.approx(0.5, rel=0.05), pytest.approx(50, rel=0.05))


def test_a_comparison_repeats_with_its_seed_and_becomes_json():
    first, again = (_compare(3, DRIFTING, 1.5) for _ in range(2))
    assert first.summary() | {"started": ""} == again.summary() | {"started": ""}
    data = json.loads(json.dumps(first.summary(), allow_nan=False))
    assert data["labels"] == ["a", "b"]
    assert data["ratio"]["low"] < 1.5 < data["ratio"]["high"]
    assert data["blocks"] == len(first.samples_ns)
    assert data["margin"] >= data["noise_floor"] > 0


@pytest.mark.parametrize(
    ("interval", "floor", "margin", "verdict"),
    [
        ((1.0, 0.99, 1.01), 0.01, 0.02, "equivalent"),
        ((0.99, 0.985, 0.995), 0.01, 0.02, "equivalent"),  # real, and too small to matter
        ((0.97, 0.96, 0.98), 0.01, 0.02, "faster"),
        ((1.03, 1.02, 1.04), 0.01, 0.02, "slower"),
        ((0.97, 0.93, 1.01), 0.01, 0.02, "inconclusive"),  # 1 is possible
        ((0.97, 0.95, 0.99), 0.04, 0.02, "inconclusive"),  # below the noise floor, beyond the margin
        ((1.01, 0.98, 1.03), 0.04, 0.02, "equivalent"),  # within the noise floor, which widens the margin
        ((1.01, 0.98, 1.03), 0.40, 0.02, "inconclusive"),  # too noisy to show that anything is equal
        ((1.01, 0.98, 1.03), 0.40, 0.50, "equivalent"),  # unless so much does not matter
        ((0.985, 0.975, 0.995), 0.01, 0.02, "inconclusive"),  # real, but perhaps too small to matter
        ((0.5, 0.4, 0.6), 0.04, 0.04, "faster"),
        ((1.0, 0.9, 1.1), 0.01, 0.02, "inconclusive"),
    ],
)
def test_verdicts(interval: tuple[float, float, float], floor: float, margin: float, verdict: str):
    assert judge(Interval(*interval), noise_floor=floor, margin=margin) == verdict


def test_sentences_are_plain():
    faster = _compare(0, QUIET, 1 / 1.05).sentence
    assert faster.startswith("b is faster than a, taking ")
    assert "% less time (time ratio 0.9" in faster
    assert "b is slower than a, by a factor of 3." in _compare(0, QUIET, 3.05).sentence
    assert _compare(0, QUIET, 1.0).sentence.startswith("b and a are equally fast within 2.0%")
    noisy = _compare(0, {"white": 0.5, "drift": 0.5, "tau": 0.05, "busy": 3.0}, 1.3)
    assert noisy.sentence.startswith(
        "no verdict between b and a: the difference is lost in the noise (time ratio"
    )


def test_the_noise_floor_is_of_the_same_run():
    quiet, noisy = _compare(0, QUIET, 1.0), _compare(0, BURSTY, 1.0)
    assert quiet.noise_floor < noisy.noise_floor
    assert quiet.margin == 0.02
    assert noisy.margin == max(0.02, noisy.noise_floor)


def test_ratios_are_exact_without_noise():
    order = np.array([[0, 1, 1, 0], [1, 0, 0, 1]] * 4, np.int8)
    samples = np.where(order == 1, 1_500_000, 1_000_000)[..., None].repeat(3, axis=2)
    ratio, itself = ratios(samples, order, np.repeat([0, 1], 4), seed=0)
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([1.5] * 3)
    assert [itself.value, itself.low, itself.high] == pytest.approx([1.0] * 3)


def test_an_interrupt_passes():
    machine = Machine(0, **QUIET)

    def call() -> None:
        machine.spend(0.01)
        if machine.now > 2e9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_calls(call, call, clock=machine.clock)
    assert latency.gc.isenabled()


@pytest.mark.parametrize(
    "limits", [{"margin": -0.1}, {"min_seconds": 0}, {"min_seconds": 3, "max_seconds": 2}]
)
def test_impossible_limits_are_refused(limits: dict[str, float]):
    with pytest.raises(UsageError, match=r"expected a margin of 0 or more.*choose other limits"):
        compare_calls(lambda: None, lambda: None, **limits)  # pyright: ignore
