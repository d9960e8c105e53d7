"""What the simulated optical processor costs two trained networks in accuracy, and what tuning brings back.

    python benchmarks/optical_accuracy.py fatnet_nano --bits 2 4 6 8 12 --images 300 --seeds 1
        --tune-steps 100 --learning-rate 3e-3
    python benchmarks/optical_accuracy.py convshare_vit_nano --bits 4 8 12 --images 300 --seeds 1
        --tune-steps 60 --tune-batch 10 --learning-rate 1e-3

For each network: every detection scheme at 2 to 12 bits of the camera's converter, homodyne detection with
100 to 100,000 electrons at the brightest pixel, and fine-tuning for 4 bits with the scheme that loses most
without being lost (below `LOST`), on the shipped training images. Accuracy is of real test images; everything
optical is simulated. Writes ``benchmarks/optical_accuracy.json`` and a page of the same name.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from fourfold.harness.console import Console
from fourfold.harness.document import encode
from fourfold.harness.optical_sweep import Sweep, sweep, variations
from fourfold.harness.optical_tune import tune
from fourfold.runtimes.optical4f.tune import TuneRecipe
from fourfold.runtimes.optical4f.vary import Variation

HERE = Path(__file__).parent
DEVICE = "optical-4f"
SCHEMES = ("homodyne", "pseudo-negative", "incoherent")
PHOTONS = (1e2, 1e3, 1e4, 1e5)
TUNED_BITS = 4
LOST = 0.15
"""Accuracy below which a network knows too little to be tuned for a fair comparison."""


def measured(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Sweep one network, tune it, and sweep the tuned one at the point it was tuned for."""
    say = Console()
    points = (
        *variations(schemes=options.schemes, bits=options.bits),
        *variations(schemes=("homodyne",), photons=PHOTONS),
    )
    common = {"seeds": options.seeds, "images": options.images, "narrator": say}
    whole = sweep(name, DEVICE, points, **common)
    target = hardest(whole)
    with tempfile.TemporaryDirectory() as folder:
        recipe = TuneRecipe(steps=options.tune_steps, learning_rate=options.learning_rate)
        out = Path(folder) / "tuned.safetensors"
        batch = options.tune_batch
        tuned = tune(name, DEVICE, out, variation=target, recipe=recipe, batch=batch, narrator=say)
        again = sweep(name, DEVICE, (target, Variation()), weights=tuned.weights, **common)
    return {
        "settings": {
            "images": options.images,
            "seeds": options.seeds,
            "tune_batch": options.tune_batch,
            "torch": torch.__version__,
        },
        "sweep": encode(whole),
        "tuning": tuning(whole, again, target, recipe, tuned.samples),
    }


def hardest(found: Sweep) -> Variation:
    """Give the point at `TUNED_BITS` that loses most of those that still know something."""
    at = [p for p in found.points if p.variation.bits == TUNED_BITS]
    known = [p for p in at if p.share.value >= LOST] or at
    return min(known, key=lambda p: p.share.value).variation


def tuning(
    before: Sweep, after: Sweep, target: Variation, recipe: TuneRecipe, samples: str
) -> dict[str, object]:
    """Say what was lost to float, and which share of it came back."""
    lost = before.float_share.value - share_at(before, target)
    back = share_at(after, target) - share_at(before, target)
    return {
        "point": target.title,
        "recipe": asdict(recipe),
        "samples": samples,
        "float": before.float_share.value,
        "before": share_at(before, target),
        "after": share_at(after, target),
        "recovered": back / lost if lost > 0 else None,
    }


def share_at(found: Sweep, target: Variation) -> float:
    """Give the accuracy at one point."""
    return next(p.share.value for p in found.points if p.variation == target)


def page(results: dict[str, dict[str, object]]) -> str:
    """Write the results as Markdown."""
    lines = [
        "# Accuracy on the simulated optical processor",
        "",
        "Simulated; no light was involved. Written by `benchmarks/optical_accuracy.py` from "
        f"`optical_accuracy.json`; device `{DEVICE}`. Accuracy is the mean over seeds of the noise, with the "
        "95 % Wilson interval of one seed's images.",
    ]
    for name, result in results.items():
        lines += ["", f"## {name}", "", *network_lines(result)]
    return "\n".join(lines) + "\n"


def network_lines(result: dict[str, object]) -> list[str]:
    """Write one network."""
    whole, tuned, settings = result["sweep"], result["tuning"], result["settings"]
    assert isinstance(settings, dict)
    assert isinstance(whole, dict)
    assert isinstance(tuned, dict)
    lines = [
        f"Float: {100 * whole['float_share']['value']:.1f} % ({whole['samples']}); "
        f"{settings['seeds']} seeds.",
        "",
        "| varied | accuracy (simulated) | 95 % interval | against float, first seed |",
        "| --- | ---: | --- | --- |",
    ]
    for point in whole["points"]:
        share = point["share"]
        lines.append(
            f"| {point['title']} | {100 * share['value']:.1f} % | {100 * share['low']:.1f} to "
            f"{100 * share['high']:.1f} | {point['paired']['verdict']} |"
        )
    causes = list(whole["budget"][0]["errors"]) if whole["budget"] else []
    lines += ["", "Error budget of the device as it is (relative error of each layer, ideal inputs):", ""]
    lines += ["| layer | " + " | ".join(causes) + " |", "| --- |" + " ---: |" * len(causes)]
    for layer in whole["budget"]:
        cells = " | ".join(f"{100 * layer['errors'].get(cause, 0.0):.2f} %" for cause in causes)
        lines.append(f"| {layer['layer']} | {cells} |")
    recovered = tuned["recovered"]
    lines += [
        "",
        f"Tuning for {tuned['point']} ({tuned['recipe']['steps']} steps of {settings['tune_batch']} samples, "
        f"learning rate {tuned['recipe']['learning_rate']:g}, {tuned['samples']}): "
        f"{100 * tuned['before']:.1f} % before, {100 * tuned['after']:.1f} % after"
        + (f", {100 * recovered:.0f} % of the loss recovered." if recovered is not None else "."),
    ]
    return lines


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=["convshare_vit_nano", "fatnet_nano"])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES))
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 4, 6, 8, 10, 12])
    parser.add_argument("--tune-steps", type=int, default=150)
    parser.add_argument("--tune-batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--out", type=Path, default=HERE / "optical_accuracy.json")
    return parser.parse_args()


def main() -> None:
    """Run, and write after each network; networks of earlier runs stay in the file."""
    options = parsed()
    for name in options.models:
        made = measured(name, options)
        results = json.loads(options.out.read_text()) if options.out.exists() else {}
        results[name] = made
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(page(results))


if __name__ == "__main__":
    main()
