"""Golden samples at which a network is undecided: left out of the comparison, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..export.artifact import Feed, Golden, Run
from ..export.edges import nudged_answers
from ..export.parity import Parity, parity


def away_from_edges(found: Parity, written: Run, golden: Golden, answers: Feed) -> Parity:
    """Compare again without the samples at which the graph itself jumps as far as the artifact was off.

    Args:
        found: A failed comparison of ``answers`` with the golden ones.
        written: The graph that was compiled, as it is written.
        golden: Inputs and the float answers of the source model, one sample per row.
        answers: Of the artifact.

    Returns:
        The comparison of the other samples, with how many were left out; ``found`` when none or all would be.
    """
    answered = found.why == ""
    edges = set(_edges(found, written, golden, answers)) if answered else set[int]()
    kept = [row for row in range(found.batch) if row not in edges]
    if not edges or not kept:
        return found
    names = found.reference, found.candidate
    rows = ({name: array[kept] for name, array in feed.items()} for feed in (golden.outputs, answers))
    return replace(parity(found.kind, *rows, names=names, batch=len(kept)), redrawn=len(edges))


def _edges(found: Parity, written: Run, golden: Golden, answers: Feed) -> Iterator[int]:
    decided = written(golden.inputs)
    nudged = list(nudged_answers(written, golden.inputs, seed=found.batch))
    for row in range(found.batch):
        off = _apart(found.kind, golden.outputs, answers, row)
        if not off.ok and any(
            _apart(found.kind, decided, other, row).relative >= off.relative / 2 for other in nudged
        ):
            yield row


def _apart(kind: str, expected: Feed, actual: Feed, row: int) -> Parity:
    one, other = ({name: array[row : row + 1] for name, array in feed.items()} for feed in (expected, actual))
    return parity(kind, one, other, names=("golden", "artifact"), batch=1)
