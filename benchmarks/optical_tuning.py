"""What tuning brings back at 4 bits of the camera, by recipe, with the recipe chosen on samples held out.

    python benchmarks/optical_tuning.py fatnet_nano --scheme pseudo-negative --recipes 60:1e-3 120:1e-3
    python benchmarks/optical_tuning.py fatnet_nano --scheme pseudo-negative --recipes 60:1e-3 --seeds 1 2

The shipped training images are cut into three quarters that tune the network and set the device up, and a
quarter that is held out to choose between recipes. Test images take part in nothing. A seed draws the order
of the samples and all noise, while tuning and while scoring. Runs are added to ``optical_tuning.json`` beside
this file, and ``optical_tuning_page.py`` makes the page out of it. Everything optical is simulated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import optical_tuning_page

from fourfold.calibration.samples import shipped_samples
from fourfold.harness.console import Console
from fourfold.harness.optical_sweep import sweep
from fourfold.harness.optical_tune import tune
from fourfold.models.registry import get_spec
from fourfold.runtimes.optical4f.tune import TuneRecipe
from fourfold.runtimes.optical4f.vary import Variation

HERE = Path(__file__).parent
DEVICE = "optical-4f"
BITS = 4
HELD_OUT = 4
"""One of so many training images is held out."""


def split(name: str, folder: Path) -> tuple[Path, Path]:
    """Write the shipped training images as those that tune, and those that are held out."""
    spec = get_spec(name)
    samples = shipped_samples(spec.dataset, "train", spec.inputs, spec.preprocess, limit=None)
    (image,) = next(iter(samples.batches(samples.count))).values()
    held = np.arange(samples.count) % HELD_OUT == 0
    parts = {"tuning": ~held, "held": held}
    for part, chosen in parts.items():
        arrays = {spec.inputs[0].name: image[chosen], "labels": samples.labels[chosen]}
        np.savez(folder / f"{part}.npz", **arrays)
    return folder / "tuning.npz", folder / "held.npz"


def scored(
    name: str, point: Variation, parts: tuple[Path, Path], weights: Path | None, images: int, seed: int
) -> dict[str, object]:
    """Score a network on what was held out and on test images."""
    common = {"data": parts[0], "weights": weights, "seeds": 1, "seed": seed, "narrator": Console()}
    held = sweep(name, DEVICE, (point,), images=10**6, eval_data=parts[1], **common)
    test = sweep(name, DEVICE, (point,), images=images, **common)
    return {
        "seed": seed,
        "held": held.points[0].share.value,
        "float_held": held.float_share.value,
        "test": test.points[0].share.value,
        "float_test": test.float_share.value,
        "images": test.samples,
        "against_float": test.points[0].paired.verdict,
    }


def measured(
    name: str, scheme: str, recipe: TuneRecipe | None, seed: int, options: argparse.Namespace
) -> dict:
    """Tune with one recipe, or not at all, and score."""
    point = Variation(scheme, BITS)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        parts, weights, losses = split(name, folder), None, ()
        if recipe is not None:
            done = tune(
                *(name, DEVICE, folder / "tuned.safetensors"),
                variation=point,
                recipe=recipe,
                batch=options.batch,
                data=parts[0],
                narrator=Console(),
            )
            weights, losses = done.weights, done.losses
        found = scored(name, point, parts, weights, options.images, seed)
    steps, rate = (recipe.steps, recipe.learning_rate) if recipe else (0, 0.0)
    batch = options.batch if recipe else 0
    told = (
        {"first_loss": float(np.mean(losses[:10])), "last_loss": float(np.mean(losses[-10:]))}
        if losses
        else {}
    )
    return {"model": name, "scheme": scheme, "steps": steps, "rate": rate, "batch": batch, **found, **told}


def known(runs: list[dict], made: tuple[object, ...]) -> bool:
    """Say whether a run is in the file."""
    return any((r["model"], r["scheme"], r["steps"], r["rate"], r["seed"]) == made for r in runs)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--scheme", required=True)
    parser.add_argument("--recipes", nargs="*", default=[], help="STEPS:LEARNING-RATE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=HERE / "optical_tuning.json")
    return parser.parse_args()


def main() -> None:
    """Run what is not in the file yet, first without tuning, and write after each run."""
    options = parsed()
    recipes: list[tuple[int, float]] = [(0, 0.0)]
    recipes += [(int(steps), float(rate)) for steps, rate in (r.split(":") for r in options.recipes)]
    for seed in options.seeds:
        for steps, rate in recipes:
            runs = json.loads(options.out.read_text()) if options.out.exists() else []
            if known(runs, (options.model, options.scheme, steps, rate, seed)):
                continue
            recipe = TuneRecipe(steps=steps, learning_rate=rate, seed=seed) if steps else None
            runs.append(measured(options.model, options.scheme, recipe, seed, options))
            options.out.write_text(json.dumps(runs, indent=1) + "\n")
            options.out.with_suffix(".md").write_text(optical_tuning_page.page(runs))


if __name__ == "__main__":
    main()
