import math
from collections.abc import Iterator

import numpy as np
import pytest

from fourfold.calibration.ranges import DataSource
from fourfold.calibration.samples import Samples
from fourfold.errors import RunError, UsageError
from fourfold.export.artifact import Feed
from fourfold.harness.accuracy import accuracy_gate, logits_of, paired_accuracy, score

CLASSES = 5


def _source(n: int) -> DataSource:
    return DataSource(f"array: {n} samples", "real", n, "0" * 64)


def _samples(x: np.ndarray, labels: np.ndarray | None) -> Samples:
    def batches(size: int) -> Iterator[Feed]:
        for start in range(0, len(x), size):
            yield {"x": x[start : start + size]}

    return Samples(_source(len(x)), batches, labels, len(x), ("",) * len(x))


def _logits(answers: np.ndarray, seed: int = 0) -> np.ndarray:
    """Random logits whose largest entry is the wanted answer."""
    logits = np.random.default_rng(seed).uniform(-1, 1, (len(answers), CLASSES)).astype(np.float32)
    logits[np.arange(len(answers)), answers] += 3
    return logits


def _pair(broke: int, fixed: int, n: int = 2000, wrong: int = 200):
    """Labels and answers: float is wrong on the last samples, the artifact breaks the first ones."""
    labels = np.random.default_rng(1).integers(0, CLASSES, n)
    reference, mine = labels.copy(), labels.copy()
    reference[-wrong:] = mine[-wrong:] = (labels[-wrong:] + 1) % CLASSES
    mine[:broke] = (labels[:broke] + 2) % CLASSES
    mine[n - fixed :] = labels[n - fixed :]
    return mine, reference, labels


def _accuracy(broke: int, fixed: int, n: int = 2000):
    mine, reference, labels = _pair(broke, fixed, n)
    return paired_accuracy(_logits(mine), _logits(reference, 1), labels, _source(n))


def test_counts_are_paired():
    found = _accuracy(3, 2)
    assert (found.n, found.float_correct, found.correct, found.broke, found.fixed) == (2000, 1800, 1799, 3, 2)
    assert found.p_value == 1
    assert found.agreement == 1995 / 2000
    assert found.interval.value == 1799 / 2000
    assert found.interval.low < 0.8995 < found.interval.high
    assert found.verdict == "not distinguishable from float: 3 broke, 2 fixed of 2000, p = 1"
    assert found.source == _source(2000)


def test_agreement_counts_answers_not_correctness():
    labels = np.array([0, 0, 0, 0])
    found = paired_accuracy(
        _logits(np.array([1, 1, 0, 0])), _logits(np.array([2, 1, 0, 0])), labels, _source(4)
    )
    assert (found.broke, found.fixed, found.agreement) == (0, 0, 0.75)
    assert found.verdict == "right and wrong on the same samples as float: 0 broke, 0 fixed of 4"


def test_a_significant_drop_is_said_as_such():
    found = _accuracy(40, 10)
    assert found.p_value < 1e-4
    assert found.verdict.startswith(
        "significantly worse than float, by 1.50 points: 40 broke, 10 fixed of 2000, p ="
    )
    assert "significantly better than float, by 1.50 points" in _accuracy(10, 40).verdict


def test_sqnr_is_over_all_logits():
    reference = np.random.default_rng(0).normal(size=(50, CLASSES)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=reference.shape).astype(np.float32) * 0.1
    found = paired_accuracy(reference + noise, reference, np.zeros(50, int), _source(50))
    expected = 10 * math.log10(np.square(reference).sum() / np.square(noise).sum())
    assert found.sqnr_db == pytest.approx(expected, abs=0.01)


def test_answers_that_are_not_numbers_are_wrong_answers():
    mine, reference, labels = _pair(0, 0)
    logits = _logits(mine)
    logits[:30] = np.nan
    found = paired_accuracy(logits, _logits(reference), labels, _source(2000))
    assert (found.broke, found.fixed) == (30, 0)
    assert found.sqnr_db == -math.inf
    assert found.verdict.startswith("broken: 30 of 2000 answers are not finite numbers")


@pytest.mark.parametrize(
    ("broke", "fixed", "max_drop", "ok"),
    [
        (40, 10, 1.0, False),  # 1.5 points and significant
        (40, 10, 1.5, True),  # not larger than tolerated
        (40, 10, 2.0, True),  # significant and tolerated
        (10, 40, 0.0, True),  # better
        (12, 8, 0.0, True),  # a drop, but chance
        (0, 0, 0.0, True),
    ],
)
def test_the_gate_needs_both_significance_and_size(broke: int, fixed: int, max_drop: float, ok: bool):
    verdict = accuracy_gate(_accuracy(broke, fixed), max_drop=max_drop)
    assert (verdict.gate, verdict.ok) == ("accuracy", ok)
    assert f"tolerated are {max_drop:g} points" in verdict.sentence


def test_a_large_drop_on_few_samples_is_not_significant():
    labels = np.zeros(4, int)
    found = paired_accuracy(_logits(np.array([1, 1, 1, 0])), _logits(labels), labels, _source(4))
    assert accuracy_gate(found, max_drop=1.0).ok
    with pytest.raises(UsageError, match=r"0 points or more, got -1"):
        accuracy_gate(found, max_drop=-1)


def test_score_streams_and_is_the_same_for_every_batch_size():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(23, 6)).astype(np.float32)
    weight = rng.normal(size=(6, CLASSES)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 23)
    sizes: list[int] = []

    def run(feed: Feed) -> Feed:
        sizes.append(len(feed["x"]))
        return {"noise": feed["x"], "logits": feed["x"] @ weight}

    samples = _samples(x, labels)
    float_logits = logits_of(run, samples, output="logits", batch=23)
    np.testing.assert_allclose(float_logits, x @ weight, rtol=1e-6)
    sizes.clear()
    found = score(run, samples, output="logits", float_logits=float_logits, batch=5)
    assert sizes == [5, 5, 5, 5, 3]
    assert (found.n, found.agreement, found.broke, found.fixed) == (23, 1, 0, 0)
    assert found.correct == int(((x @ weight).argmax(1) == labels).sum())


def test_a_run_may_reuse_its_output_buffer():
    buffer = np.zeros((1, CLASSES), np.float32)

    def run(feed: Feed) -> Feed:
        buffer[:] = feed["x"]
        return {"y": buffer}

    x = np.random.default_rng(0).normal(size=(4, CLASSES)).astype(np.float32)
    np.testing.assert_array_equal(logits_of(run, _samples(x, None), output="y"), x)


def test_what_cannot_be_scored_is_refused():
    x = np.ones((4, CLASSES), np.float32)
    labels = np.array([0, 1, 2, 3])
    with pytest.raises(UsageError, match=r"expected labelled samples.*array: 4 samples"):
        score(lambda feed: {"y": feed["x"]}, _samples(x, None), output="y", float_logits=x)
    with pytest.raises(RunError, match=r"expected an output 'z', got y"):
        logits_of(lambda feed: {"y": feed["x"]}, _samples(x, labels), output="z")
    with pytest.raises(RunError, match=r"expected logits of shape \(1, classes\).*\(1, 5, 1\)"):
        logits_of(lambda feed: {"y": feed["x"][..., None]}, _samples(x, labels), output="y")
    with pytest.raises(UsageError, match=r"same samples"):
        paired_accuracy(x, x[:3], labels, _source(4))
    with pytest.raises(UsageError, match=r"finite logits of the float model"):
        paired_accuracy(x, x * np.nan, labels, _source(4))
    with pytest.raises(UsageError, match=r"labels from 0 to 4, got 1 outside"):
        paired_accuracy(x, x, np.array([0, 1, 2, 9]), _source(4))
    with pytest.raises(UsageError, match=r"at least one labelled sample"):
        paired_accuracy(x[:0], x[:0], labels[:0], _source(0))
