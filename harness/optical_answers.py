"""The answers of the optical verbs: text, one JSON document, and the pictures they were asked to write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .answers import Answer, columns
from .document import encode
from .wording import digits, percent

if TYPE_CHECKING:
    from ..runtimes.optical4f.budget import LayerBudget
    from .optical_claim import Claimed
    from .optical_frames import Written
    from .optical_sweep import Sweep, Swept
    from .optical_tune import Tuned

SIMULATED = "Simulated: no light was involved."


def sweep(found: Sweep, out: Path | None) -> Answer:
    """Answer with a row for each point, the error budget, and the picture where one was asked for."""
    head = f"{found.model} on {found.device}, {found.samples}, set up on {found.set_up_on}. {SIMULATED}"
    level = f"float: {percent(found.float_share.value)}"
    parts = [head, *found.warnings, level, columns([_row(point) for point in found.points])]
    if found.budget:
        parts += ["Error budget of the device as it is, relative error of each layer:", _budget(found.budget)]
    if out is not None:
        parts.append(_write_plot(found, out))
    return Answer("\n\n".join(parts), encode(found))


def tuned(found: Tuned) -> Answer:
    """Answer with the weights that were written and how the loss fell."""
    tenth = max(1, len(found.losses) // 10)
    first = sum(found.losses[:tenth]) / len(found.losses[:tenth])
    last = sum(found.losses[-tenth:]) / len(found.losses[-tenth:])
    text = (
        f"distance from the float answers: {digits(first)} in the first tenth of {len(found.losses)} steps, "
        f"{digits(last)} in the last ({found.samples})\nweights: {found.weights}\n{SIMULATED}"
    )
    document = {"weights": str(found.weights), "losses": list(found.losses), "samples": found.samples}
    return Answer(text, document)


def frames(found: Written) -> Answer:
    """Answer with what was written and how well ideal frames are read back."""
    text = (
        f"{found.frames} frames of pass {found.number} of {found.passes} of {found.layer}: {found.folder}\n"
        f"read back from ideal camera frames, its answers differ from digital ones by {found.error:.1e}\n"
        f"{SIMULATED}"
    )
    document = {
        "folder": str(found.folder),
        "layer": found.layer,
        "pass": found.number,
        "passes": found.passes,
        "frames": found.frames,
        "error": found.error,
    }
    return Answer(text, document)


def claim(found: Claimed) -> Answer:
    """Answer with what named inputs amount to, how far each one moves it, and what a camera would say."""
    made, asked = found.claim, found.reality
    moved = made.tornado()
    rows = [
        {"input": name, "halved": f"{low:.3g}x", "doubled": f"{high:.3g}x"}
        for name, (low, high) in moved.items()
    ]
    lines = [
        f"speed-up of what light computes (modelled): {made.speed_up:.4g}x, "
        f"{made.samples_per_second:.4g} samples a second",
        f"of the whole, when that is {percent(found.share)} of the digital time: {found.whole:.4g}x (Amdahl)",
        *([f"energy ratio (modelled): {made.energy_ratio:.4g}x"] if made.energy_ratio else []),
        f"one processor asks for {asked.sentence}",
        columns(rows),
    ]
    document = {
        "speed_up": made.speed_up,
        "whole": found.whole,
        "samples_per_second": made.samples_per_second,
        "energy_ratio": made.energy_ratio or None,
        "times_fastest_camera": asked.times_fastest_camera,
        "tornado": {name: list(pair) for name, pair in moved.items()},
        "modelled": True,
    }
    return Answer("\n".join(lines), document)


def _row(point: Swept) -> Mapping[str, str]:
    share = point.share
    return {
        "varied": point.title,
        "accuracy (simulated)": percent(share.value),
        "95 % interval": f"{percent(share.low)} to {percent(share.high)}",
        "seeds": " ".join(percent(value) for value in point.by_seed),
        "against float, first seed": point.paired.verdict,
    }


def _budget(budget: tuple[LayerBudget, ...]) -> str:
    return columns(
        [
            {"layer": one.layer} | {cause: percent(error, 2) for cause, error in one.errors.items()}
            for one in budget
        ]
    )


def _write_plot(found: Sweep, out: Path) -> str:
    from .optical_plot import sweep_plot

    plot = sweep_plot(found)
    if not plot:
        return "no picture was written: vary bits, photons or the shift over two or more values"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(plot, encoding="utf-8")
    return f"picture: {out}"
