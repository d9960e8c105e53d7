"""Run two forms of a network on fresh inputs, and put aside those that are on the edge of a decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..models.spec import TensorSpec
from .artifact import Feed, Run
from .edges import REDRAWS, nudged_answers
from .parity import Parity, batch_sizes, fresh_inputs, parity


def check(
    kind: str,
    reference: Run,
    candidate: Run,
    specs: tuple[TensorSpec, ...],
    *,
    names: tuple[str, str],
    batches: tuple[int, ...] = (1, 3),
    seed: int = 0,
) -> tuple[Parity, ...]:
    """Run both on fresh inputs at every batch size and compare.

    Args:
        kind: Key of ``TOLERANCES``.
        reference: The network to be met.
        candidate: The network that should equal it.
        specs: Inputs of both; without a free ``"batch"`` the one fixed batch size is tried.
        names: What reference and candidate are called in reports.
        batches: Batch sizes.
        seed: Of the inputs.

    Returns:
        One verdict per batch size; inputs on the edge of a decision are drawn again (see `settle`).
    """
    found: list[Parity] = []
    for batch in batch_sizes(specs, batches):
        draw = partial(_draw, specs, batch, seed + batch)
        feed = draw(0)
        first = parity(kind, reference(feed), candidate(feed), names=names, batch=batch)
        found.append(settle(first, reference, candidate, feed, draw))
    return tuple(found)


def settle(found: Parity, reference: Run, candidate: Run, feed: Feed, draw: Callable[[int], Feed]) -> Parity:
    """Give a verdict as it is, or that of another input where the reference itself is undecided.

    A difference says nothing if nudges of ``feed`` by its rounding move the reference half as far or more
    (see ``edges``). Then others are compared, from ``draw`` by number; how many stays in the verdict.
    """
    for attempt in range(1, REDRAWS + 1):
        if found.ok or found.why or not _on_edge(found, reference, feed):
            return found
        feed = draw(attempt)
        names = found.reference, found.candidate
        again = parity(found.kind, reference(feed), candidate(feed), names=names, batch=found.batch)
        found = replace(again, redrawn=attempt)
    return found


def _draw(specs: tuple[TensorSpec, ...], batch: int, seed: int, attempt: int) -> Feed:
    return fresh_inputs(specs, batch=batch, seed=seed + 7919 * attempt)


def _on_edge(found: Parity, reference: Run, feed: Feed) -> bool:
    answers = reference(feed)
    moved = (
        parity(found.kind, answers, other, names=("reference", "nudged reference"), batch=found.batch)
        for other in nudged_answers(reference, feed, seed=found.batch)
    )
    return any(m.relative >= found.relative / 2 for m in moved)
