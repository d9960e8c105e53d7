import math

import numpy as np
import pytest

from fourfold.errors import UsageError, VerdictError
from fourfold.export.check import check
from fourfold.export.parity import TOLERANCES, fresh_inputs, parity, require
from fourfold.models.spec import TensorSpec

NAMES = ("reference", "candidate")
RANDOM = np.random.default_rng(0)
Y = RANDOM.standard_normal((2, 50)).astype(np.float32)


def compare(reference, candidate, kind="fp32"):
    return parity(kind, {"y": np.asarray(reference)}, {"y": np.asarray(candidate)}, names=NAMES, batch=2)


def test_every_tolerance_decides_something_and_says_why() -> None:
    for tolerance in TOLERANCES.values():
        assert math.isfinite(tolerance.relative) or math.isfinite(tolerance.sqnr_db)
        assert len(tolerance.reason) > 20


def test_errors_are_measured_in_float64() -> None:
    moved = Y.astype(np.float64)
    moved[1, 7] += 1e-3
    found = compare(Y, moved)
    assert found.max_abs == pytest.approx(1e-3, rel=1e-6)
    assert found.relative == pytest.approx(1e-3 / np.abs(Y).max(), rel=1e-6)
    power = float(np.mean(Y.astype(np.float64) ** 2))
    assert found.sqnr_db == pytest.approx(10 * math.log10(power / (1e-6 / Y.size)), rel=1e-6)
    assert not found.ok


@pytest.mark.parametrize(
    ("kind", "error", "ok"),
    [
        ("fold", 5e-6, True),
        ("fold", 2e-5, False),
        ("fp32", 5e-5, True),
        ("fp32", 2e-4, False),
        ("int8-engine", 0.01, True),
        ("int8-engine", 0.4, False),
        ("int8", 0.1, True),
        ("int8", 0.5, False),
    ],
)
def test_verdicts(kind, error, ok) -> None:
    assert compare(Y, Y * (1 + error), kind).ok is ok


def test_equal_answers() -> None:
    found = compare(Y, Y)
    assert (found.ok, found.max_abs, found.sqnr_db, found.why) == (True, 0.0, math.inf, "")


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (np.where(np.arange(50) == 3, np.nan, Y), "NaN"),
        (np.where(np.arange(50) == 3, np.inf, Y), "NaN or infinite"),
        (Y[:1], r"shape (1, 50)"),
        (Y.reshape(2, 50, 1), "shape"),
    ],
)
def test_what_no_number_can_say_fails(candidate, why) -> None:
    found = compare(Y, candidate)
    assert not found.ok
    assert found.relative == math.inf
    assert why in found.why


def test_a_missing_output_fails_and_an_extra_one_is_ignored() -> None:
    assert not parity("fp32", {"y": Y, "z": Y}, {"y": Y}, names=NAMES, batch=2).ok
    assert parity("fp32", {"y": Y}, {"y": Y, "z": Y}, names=NAMES, batch=2).ok
    assert not parity("fp32", {}, {}, names=NAMES, batch=2).ok


def test_infinities_must_stand_at_the_same_places() -> None:
    masked = np.where(np.arange(50) == 3, -np.inf, Y)
    assert compare(masked, masked).ok
    assert not compare(masked, -masked).ok
    assert not compare(masked, Y).ok
    nothing = np.full((2, 3), np.nan)
    assert "no finite value" in compare(nothing, nothing).why


def test_a_reference_of_zeros_is_compared_absolutely() -> None:
    zeros = np.zeros((2, 4), np.float32)
    assert compare(zeros, zeros).ok
    assert compare(zeros, zeros + 1e-9).ok
    assert not compare(zeros, zeros + 1e-3).ok
    assert compare(zeros[:0], zeros[:0]).ok


def test_integers_and_booleans_must_be_equal() -> None:
    labels = np.arange(6)
    assert compare(labels, labels, "int8").ok
    assert not compare(labels, labels + 1, "int8").ok
    assert not compare(labels > 2, labels > 3, "int8").ok


def test_the_worst_output_is_named() -> None:
    found = parity("fp32", {"a": Y, "b": Y}, {"a": Y, "b": Y * 1.01}, names=NAMES, batch=2)
    assert found.worst == "b"
    with pytest.raises(VerdictError, match=r"step 'fold'.*candidate to equal reference.*0\.0001.*'b'"):
        require((found,), "fold")
    require((compare(Y, Y),), "fold")


def test_an_unknown_kind_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="did you mean fp32"):
        compare(Y, Y, "fp3")


def test_fresh_inputs_follow_the_specs() -> None:
    specs = (
        TensorSpec("x", ("batch", 3, "width")),
        TensorSpec("ids", ("batch", 4), "int64"),
        TensorSpec("mask", (5,), "bool"),
    )
    feed = fresh_inputs(specs, batch=2, seed=3, free=7)
    assert {k: (v.shape, v.dtype.name) for k, v in feed.items()} == {
        "x": ((2, 3, 7), "float32"),
        "ids": ((2, 4), "int64"),
        "mask": ((5,), "bool"),
    }
    assert np.array_equal(feed["x"], fresh_inputs(specs, batch=2, seed=3, free=7)["x"])
    assert not np.array_equal(feed["x"], fresh_inputs(specs, batch=2, seed=4, free=7)["x"])
    assert feed["ids"].min() >= 0


def test_fresh_integers_stay_below_their_bound_and_reach_it() -> None:
    feed = fresh_inputs((TensorSpec("ids", ("batch", 4000), "int64", high=257),), batch=2, seed=0)
    assert (feed["ids"].min(), feed["ids"].max()) == (0, 256)


def test_check_tries_every_batch_size_or_the_fixed_one() -> None:
    def double(feed):
        return {"y": feed["x"] * 2}

    free, fixed = (TensorSpec("x", ("batch", 3)),), (TensorSpec("x", (4, 3)),)
    assert [p.batch for p in check("fp32", double, double, free, names=NAMES)] == [1, 3]
    assert [p.batch for p in check("fp32", double, double, fixed, names=NAMES)] == [4]
