"""Is the artifact still as accurate as the float model? Judged sample by sample, never by a bare difference.

Axis letters: n samples, c classes.
"""

from __future__ import annotations

import numpy as np

from ..calibration.ranges import DataSource
from ..calibration.samples import Samples
from ..errors import RunError, UsageError
from ..export.artifact import Array, Run
from .result import Accuracy, Verdict
from .stats import agreement, mcnemar_exact, sqnr_db, wilson

SIGNIFICANT = 0.05
"""Two-sided p below which a difference is not put down to chance."""

NO_ANSWER = -1
"""Class of a sample whose logits are not finite: right for no label, equal to no float answer."""


def score(run: Run, samples: Samples, *, output: str, float_logits: Array, batch: int = 1) -> Accuracy:
    """Run an artifact over labelled samples and compare it with the float model on the same ones.

    Args:
        run: One inference of the artifact.
        samples: Labelled samples.
        output: Name of the output that holds the logits.
        float_logits: (n, c) answers of the float model, in the order of the samples.
        batch: Samples per call.

    Returns:
        The paired accuracy.

    Raises:
        UsageError: If the samples have no labels or there is another number of float answers.
        RunError: If the run fails or its output is no (batch, c) array.
    """
    if samples.labels is None:
        raise UsageError(
            f"expected labelled samples to score with, got none in {samples.source.description}; "
            "use data with labels or leave the accuracy out"
        )
    logits = logits_of(run, samples, output=output, batch=batch)
    return paired_accuracy(logits, float_logits, samples.labels, samples.source)


def logits_of(run: Run, samples: Samples, *, output: str, batch: int = 1) -> Array:
    """Run over all samples a batch at a time and keep only one output.

    Args:
        run: One inference.
        samples: What to run over.
        output: Name of the output that holds the logits.
        batch: Samples per call; the last call may get fewer.

    Returns:
        (n, c), in the order of the samples.

    Raises:
        RunError: If the output is missing or is no (batch, c) array.
    """
    parts: list[Array] = []
    for feed in samples.batches(batch):
        expected = len(next(iter(feed.values())))
        answers = run(feed)
        if output not in answers:
            raise RunError(
                f"expected an output {output!r}, got {', '.join(sorted(answers))}; name one of these"
            )
        logits = answers[output]
        if logits.ndim != 2 or len(logits) != expected:
            raise RunError(
                f"expected logits of shape ({expected}, classes) in {output!r}, got {logits.shape}; "
                "name the output that classifies"
            )
        parts.append(np.array(logits))
    return np.concatenate(parts)


def paired_accuracy(logits: Array, float_logits: Array, labels: Array, source: DataSource) -> Accuracy:
    """Compare the answers of an artifact and of the float model to the same questions.

    Args:
        logits: (n, c) of the artifact.
        float_logits: (n, c) of the float model.
        labels: (n,) class numbers.
        source: Where the samples came from.

    Returns:
        Counts, McNemar's exact p, agreement, SQNR, the accuracy with its interval, and a sentence.

    Raises:
        UsageError: If the shapes do not fit or the float logits are not finite.
    """
    _check(logits, float_logits, labels)
    mine, reference = _answers(logits), _answers(float_logits)
    right, float_right = mine == labels, reference == labels
    n, correct, float_correct = len(labels), int(right.sum()), int(float_right.sum())
    broke, fixed = int((float_right & ~right).sum()), int((right & ~float_right).sum())
    p_value = mcnemar_exact(broke, fixed)
    return Accuracy(
        n=n,
        correct=correct,
        float_correct=float_correct,
        broke=broke,
        fixed=fixed,
        p_value=p_value,
        agreement=agreement(mine, reference),
        sqnr_db=sqnr_db(float_logits, logits),
        interval=wilson(correct, n),
        source=source,
        verdict=_sentence(n, broke, fixed, p_value, int((mine == NO_ANSWER).sum())),
    )


def accuracy_gate(accuracy: Accuracy, *, max_drop: float) -> Verdict:
    """Say no to a drop that is both significant and larger than what is tolerated.

    Args:
        accuracy: The paired accuracy.
        max_drop: Tolerated drop against float, in percentage points, 0 or more.
    """
    if max_drop < 0:
        raise UsageError(f"expected a tolerated drop of 0 points or more, got {max_drop}; leave out the sign")
    drop = drop_points(accuracy)
    ok = not (accuracy.p_value < SIGNIFICANT and drop > max_drop)
    return Verdict("accuracy", ok, f"{accuracy.verdict}; tolerated are {max_drop:g} points")


def drop_points(accuracy: Accuracy) -> float:
    """Return by how many percentage points the artifact is less accurate than float."""
    return 100 * (accuracy.float_correct - accuracy.correct) / accuracy.n


def _check(logits: Array, float_logits: Array, labels: Array) -> None:
    if logits.ndim != 2 or logits.shape != float_logits.shape or labels.shape != logits.shape[:1]:
        raise UsageError(
            "expected logits and float logits of one shape (n, classes) and n labels, "
            f"got {logits.shape}, {float_logits.shape} and {labels.shape}; score both on the same samples"
        )
    if len(labels) == 0:
        message = "expected at least one labelled sample, got none; choose other data"
        raise UsageError(message)
    broken = int((~np.isfinite(float_logits)).sum())
    if broken:
        raise UsageError(
            f"expected finite logits of the float model, got {broken} others; mend the model first"
        )
    beyond = int(((labels < 0) | (labels >= logits.shape[1])).sum())
    if beyond:
        raise UsageError(
            f"expected labels from 0 to {logits.shape[1] - 1}, got {beyond} outside; "
            "use data with the classes of this model"
        )


def _answers(logits: Array) -> Array:
    """Return the (n,) classes with the largest logit."""
    return np.where(np.isfinite(logits).all(axis=1), logits.argmax(axis=1), NO_ANSWER)


def _sentence(n: int, broke: int, fixed: int, p_value: float, unanswered: int) -> str:
    counts = f"{broke} broke, {fixed} fixed of {n}"
    evidence = f"{counts}, p = {_p(p_value)}"
    points = 100 * abs(broke - fixed) / n
    if unanswered:
        return f"broken: {unanswered} of {n} answers are not finite numbers ({evidence})"
    if broke == fixed == 0:
        return f"right and wrong on the same samples as float: {counts}"
    if p_value >= SIGNIFICANT:
        return f"not distinguishable from float: {evidence}"
    worse = "worse" if broke > fixed else "better"
    return f"significantly {worse} than float, by {points:.2f} points: {evidence}"


def _p(p_value: float) -> str:
    return f"{p_value:.2g}" if p_value >= 1e-4 else "below 0.0001"
