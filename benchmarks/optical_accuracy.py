r"""What the simulated optical processor costs two trained networks in accuracy.

    python benchmarks/optical_accuracy.py fatnet_nano --bits 2 4 6 8 12 --images 500 --seeds 1
    python benchmarks/optical_accuracy.py convshare_vit_nano --bits 2 4 6 8 12 --photons 1e3 1e4 \
        --images 300 --seeds 1

For each network: every detection scheme at 2 to 12 bits of the camera's converter, and homodyne detection
with 100 to 100,000 electrons at the brightest pixel, each set up on shipped training images. Accuracy is of
real test images; everything optical is simulated. Writes ``optical_accuracy.json`` beside this file, out of
which ``optical_accuracy_page.py`` makes the page. What tuning brings back: ``optical_tuning.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import optical_accuracy_page
import torch

from fourfold.harness.console import Console
from fourfold.harness.document import encode
from fourfold.harness.optical_sweep import sweep, variations

HERE = Path(__file__).parent
DEVICE = "optical-4f"
SCHEMES = ("homodyne", "pseudo-negative", "incoherent")
PHOTONS = (1e2, 1e3, 1e4, 1e5)


def measured(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Sweep one network."""
    points = (
        *variations(schemes=options.schemes, bits=options.bits),
        *variations(schemes=("homodyne",), photons=options.photons),
    )
    whole = sweep(name, DEVICE, points, seeds=options.seeds, images=options.images, narrator=Console())
    settings = {"images": options.images, "seeds": options.seeds, "torch": torch.__version__}
    return {"settings": settings, "sweep": encode(whole)}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=["convshare_vit_nano", "fatnet_nano"])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES))
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 4, 6, 8, 10, 12])
    parser.add_argument("--photons", type=float, nargs="+", default=list(PHOTONS))
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
        options.out.with_suffix(".md").write_text(optical_accuracy_page.page(results))


if __name__ == "__main__":
    main()
