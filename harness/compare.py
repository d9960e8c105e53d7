"""``compare``: rank bundles by interleaved, paired timing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .console import Narrator, Silent
from .examine import calls, first_sample
from .paired import Comparison, compare_openings
from .ready import ready


def compare(
    bundles: Sequence[Path],
    *,
    seconds: float = 6.0,
    margin: float = 0.02,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> tuple[Comparison, ...]:
    """Compare every bundle with the first one, interleaved in one process.

    Args:
        bundles: Folders of two or more bundles; one given twice is compared with itself.
        seconds: Least duration of each comparison.
        margin: Relative difference that counts as none.
        seed: Of the order of blocks and of the bootstrap.
        narrator: Is told of every stage.

    Raises:
        UsageError: If there are fewer than two, or a folder is not a whole, untouched bundle.
        UnavailableError: If this is not the device of one of them.
        RunError: If a device fails.
    """
    if len(bundles) < 2:
        raise UsageError(f"expected two or more bundles to compare, got {len(bundles)}; name another")
    say = narrator or Silent()
    first, *others = bundles
    return tuple(_pair(first, other, seconds, margin, seed, say) for other in others)


def _pair(first: Path, other: Path, seconds: float, margin: float, seed: int, say: Narrator) -> Comparison:
    a, b = ready(first, on_device=True), ready(other, on_device=True)
    feed_a, feed_b = first_sample(a.bundle.golden.inputs), first_sample(b.bundle.golden.inputs)
    with say.stage(f"comparing {b.bundle.title} with {a.bundle.title}"):
        return compare_openings(
            lambda: calls(a.open, feed_a),
            lambda: calls(b.open, feed_b),
            labels=(a.bundle.title, b.bundle.title),
            margin=margin,
            min_seconds=seconds,
            seed=seed,
        )
