"""From a ratio of times and its noise to a verdict, and to a sentence."""

from __future__ import annotations

from typing import Literal

from .result import Interval

Outcome = Literal["faster", "slower", "equivalent", "inconclusive"]

# A machine that differs from itself by more than this cannot show that two calls are equal.
UNFIT = 0.1


def judge(ratio: Interval, *, noise_floor: float, margin: float) -> Outcome:
    """Turn a ratio into a verdict on b.

    Equivalent when the whole interval lies inside the margin or the noise floor, whichever is larger, unless
    the noise is so large that this says nothing. Faster or slower when the interval leaves out 1 and the
    ratio itself is beyond both. Inconclusive otherwise.

    Args:
        ratio: Time of b over time of a.
        noise_floor: Relative deviation that a call shows against itself.
        margin: Relative difference that does not matter.
    """
    wide = max(margin, noise_floor)
    if wide <= max(margin, UNFIT) and ratio.low >= 1 / (1 + wide) and ratio.high <= 1 + wide:
        return "equivalent"
    if ratio.high < 1 and ratio.value < 1 / (1 + wide):
        return "faster"
    if ratio.low > 1 and ratio.value > 1 + wide:
        return "slower"
    return "inconclusive"


def sentence(
    verdict: Outcome, labels: tuple[str, str], ratio: Interval, floor: float, margin: float, blocks: int
) -> str:
    """Say a verdict in plain words, with the evidence behind it.

    Args:
        verdict: Of ``judge``.
        labels: What a and b are called.
        ratio: Time of b over time of a.
        floor: The noise floor.
        margin: The margin that was used.
        blocks: Number of blocks behind the interval.
    """
    a, b = labels
    between = f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}"
    evidence = f"time ratio {ratio.value:.3f}, {between}, noise floor {floor:.1%}, {blocks} blocks"
    if verdict == "equivalent":
        return f"{b} and {a} are equally fast within {margin:.1%} ({evidence})"
    if verdict == "inconclusive":
        return f"no verdict between {b} and {a}: the difference is lost in the noise ({evidence})"
    return f"{b} is {verdict} than {a}, {_times(ratio.value)} ({evidence})"


def _times(ratio: float) -> str:
    """Say a ratio of times as a person would."""
    if 0.67 < ratio < 1.5:
        return f"taking {abs(1 - ratio):.1%} {'less' if ratio < 1 else 'more'} time"
    return f"by a factor of {max(ratio, 1 / ratio):.2f}"
