"""Is this graph still the same network? The one place in the project that holds tolerances."""

from __future__ import annotations

from dataclasses import dataclass

from .artifact import Feed


@dataclass(frozen=True)
class Tolerance:
    """Largest error that still counts as equal, and why it is that large."""

    relative: float
    """Of max |candidate - reference| / max |reference|."""
    sqnr_db: float
    """Lowest signal to noise ratio of the candidate against the reference, in decibel."""
    reason: str


TOLERANCES: dict[str, Tolerance] = {}


@dataclass(frozen=True)
class Parity:
    """How far a candidate is from its reference on one input."""

    kind: str
    """Key of ``TOLERANCES``."""
    reference: str
    """For example ``"torch"``."""
    candidate: str
    """For example ``"openvino CPU"``."""
    batch: int
    max_abs: float
    relative: float
    sqnr_db: float
    worst: str
    """Name of the output that is farthest."""
    ok: bool


def parity(kind: str, reference: Feed, candidate: Feed, *, names: tuple[str, str], batch: int) -> Parity:
    """Compare two answers to one question.

    Args:
        kind: Key of ``TOLERANCES``.
        reference: Outputs to be met.
        candidate: Outputs that were produced.
        names: What reference and candidate are called in reports.
        batch: Batch size of both.

    Returns:
        The errors and the verdict; a missing output, another shape or a non-finite value is a failed verdict.
    """
    raise NotImplementedError
