"""Names of classes, and whether they can be those of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..errors import UsageError


def check_unique(labels: Sequence[str]) -> None:
    """Refuse names of which one stands for two classes.

    Raises:
        UsageError: Naming it.
    """
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise UsageError(f"expected every label once, got {twice[0]!r} more than once; rename one of them")


def check_count(labels: Sequence[str], output: str, shape: Sequence[int | str]) -> None:
    """Refuse names that are not as many as an output has classes; no names are always right.

    Args:
        labels: Names of the classes.
        output: Name of the output.
        shape: (B, K) or (B, K, ...) for K classes.

    Raises:
        UsageError: Naming both numbers.
    """
    if labels and (len(shape) < 2 or shape[1] != len(labels)):
        raise UsageError(
            f"expected as many labels as {output!r} has classes, got {len(labels)} labels for the "
            f"shape {tuple(shape)}; give one label a class, or none"
        )
