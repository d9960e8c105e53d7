"""Write the page of `optical_tuning.py` from its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

Run = dict[str, Any]
HERE = Path(__file__).parent
HEAD = """# What tuning brings back at 4 bits of the camera

Simulated; no light was involved. Written by `benchmarks/optical_tuning_page.py` from `optical_tuning.json`,
which `benchmarks/optical_tuning.py` fills; device `optical-4f` with a converter of 4 bits. The loss is what
the untuned network loses to float on the same test images. Recipes are chosen by the accuracy on training
images that were held out (one in four); test images take part in nothing but the columns of the test. A seed
draws the order of the samples and all noise; every recipe that was tried is here. Means are over the seeds
named.
"""


def page(runs: Sequence[Run]) -> str:
    """Write the runs as Markdown, a table for each network and scheme."""
    parts = [HEAD]
    for model, scheme in dict.fromkeys((r["model"], r["scheme"]) for r in runs):
        mine = [r for r in runs if (r["model"], r["scheme"]) == (model, scheme)]
        if any(r["steps"] and r["seed"] == 0 for r in mine):
            parts.append(_section(f"{model}, {scheme}", mine))
    return "\n".join(parts)


def chosen(runs: Sequence[Run]) -> tuple[int, float]:
    """Give steps and learning rate of the recipe that was best on what was held out, by its first seed."""
    tuned = [r for r in runs if r["steps"] and r["seed"] == 0]
    best = max(tuned, key=lambda r: (r["held"], -r["steps"]))
    return best["steps"], best["rate"]


def recovered(runs: Sequence[Run], recipe: tuple[int, float]) -> float:
    """Give the share of the loss that a recipe brought back on the test images, over its seeds."""
    tuned = [r for r in runs if (r["steps"], r["rate"]) == recipe]
    seeds = {r["seed"] for r in tuned}
    plain = [r for r in runs if not r["steps"] and r["seed"] in seeds]
    before = mean(r["test"] for r in plain)
    return (mean(r["test"] for r in tuned) - before) / (plain[0]["float_test"] - before)


def _section(title: str, runs: list[Run]) -> str:
    first, best = next(r for r in runs if not r["steps"]), chosen(runs)
    lines = [
        f"## {title}",
        "",
        f"Float: {_percent(first['float_test'])} of the test ({first['images']}), "
        f"{_percent(first['float_held'])} of the held out.",
        "",
        "| steps of samples, learning rate | seeds | held out | test | test by seed | of the loss |",
        "| --- | --- | ---: | ---: | --- | ---: |",
    ]
    for recipe in sorted({(r["steps"], r["rate"]) for r in runs}):
        lines.append(_row(recipe, runs, best))
    lines += ["", f"Chosen: {best[0]} steps at {best[1]:g}, {_loss(recovered(runs, best))} of the loss.", ""]
    return "\n".join(lines)


def _row(recipe: tuple[int, float], runs: list[Run], best: tuple[int, float]) -> str:
    mine = sorted((r for r in runs if (r["steps"], r["rate"]) == recipe), key=lambda r: r["seed"])
    name = f"{recipe[0]} of {mine[0]['batch']}, {recipe[1]:g}" if recipe[0] else "not tuned"
    cells = (
        f"**{name}**" if recipe == best else name,
        " ".join(str(r["seed"]) for r in mine),
        _percent(mean(r["held"] for r in mine)),
        _percent(mean(r["test"] for r in mine)),
        " ".join(_percent(r["test"]) for r in mine),
        _loss(recovered(runs, recipe)) if recipe[0] else "",
    )
    return "| " + " | ".join(cells) + " |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _loss(share: float) -> str:
    return f"{100 * share:.0f} %"


if __name__ == "__main__":
    (HERE / "optical_tuning.md").write_text(page(json.loads((HERE / "optical_tuning.json").read_text())))
