"""``compare``: rank bundles by interleaved, paired timing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..errors import UsageError
from .console import Narrator, Silent
from .examine import first_sample
from .opened import opened
from .paired import Comparison, compare_calls


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
    with ExitStack() as stack:
        stack.enter_context(say.stage(f"comparing {other.name} with {first.name}"))
        a, session_a = stack.enter_context(opened(first, on_device=True))
        b, session_b = stack.enter_context(opened(other, on_device=True))
        feed_a, feed_b = first_sample(a.golden.inputs), first_sample(b.golden.inputs)
        return compare_calls(
            lambda: session_a.run(feed_a),
            lambda: session_b.run(feed_b),
            labels=(a.title, b.title),
            margin=margin,
            min_seconds=seconds,
            seed=seed,
        )
