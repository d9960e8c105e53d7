"""What int8 does to masks and to predicted noise: small networks that name no class, on 10,000 test images.

    OMP_NUM_THREADS=1 python benchmarks/nano_answers.py mhs_vm_nano pasted.npz
    OMP_NUM_THREADS=1 python benchmarks/nano_answers.py moh_dit_nano FOLDER

Data are those that ``train_nano.py`` trains on. A network is deployed as ``fourfold export`` does it,
calibrated on training images, and the opened file answers for all test images.

Axis letters: N images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from nano_data import Images
from nano_tasks import Task
from torch import Tensor, nn
from train_nano import OTHERS

import fourfold
from fourfold.harness.examine import Budget
from fourfold.models.registry import get_spec
from fourfold.models.spec import ModelSpec
from fourfold.models.weights import build_model
from fourfold.runtimes.engines import runtime_for
from fourfold.runtimes.runtime import Session

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
DEVICES = ("cpu-ort", "cpu-openvino")
CALIBRATED_ON = 512
SEED = 0

Table = dict[str, dict[str, float | str]]
"""Figures by network: what they are of, and one of float and of every device."""


class Opened(nn.Module):
    """A session that is called like the network it was made from."""

    def __init__(self, spec: ModelSpec, session: Session) -> None:
        super().__init__()
        self.spec, self.session = spec, session

    def forward(self, *inputs: Tensor) -> Tensor:
        """Answer with the first output."""
        feed = {t.name: x.numpy() for t, x in zip(self.spec.inputs, inputs, strict=True)}
        return torch.from_numpy(self.session.run(feed)[self.spec.outputs[0]])


def calibration(spec: ModelSpec, task: Task, train: Images, path: Path) -> None:
    """Write inputs made of some training images as an npz that ``--data`` takes."""
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(train), generator=generator)[:CALIBRATED_ON]
    pixels = train.pixels[chosen]
    given = task.given(pixels, train.labels[chosen], pixels.shape[-1], generator)
    np.savez(path, **{t.name: x.numpy() for t, x in zip(spec.inputs, given.inputs, strict=True)})


def measured(name: str, source: Path) -> dict[str, float | str]:
    """Score a network in float and on every device."""
    spec, task = get_spec(name), OTHERS[name]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        splits = task.read(source, work)
        calibration(spec, task, splits["train"], work / "calibration.npz")
        ((figure, value),) = task.scores(build_model(spec), splits["test"]).items()
        row: dict[str, float | str] = {"figure": figure, "float": float(value)}
        for device in DEVICES:
            bundle = fourfold.deploy(
                name,
                device,
                precision="int8",
                out=work,
                data=work / "calibration.npz",
                budget=Budget(seconds=0.1),
            )
            runtime = runtime_for(bundle.device)
            with runtime.open(bundle.compiled, bundle.device) as session:
                (row[device],) = task.scores(Opened(spec, session), splits["test"]).values()
        return row


def page(table: Table) -> str:
    """Write the table."""
    rows = [
        f"| `{name}` | {row['figure']} | "
        + " | ".join(f"{row[key]:.4f}" for key in ("float", *DEVICES))
        + " |"
        for name, row in sorted(table.items())
    ]
    lines = [
        "# int8 of the small networks that name no class",
        "",
        "Written by `benchmarks/nano_answers.py`: post-training int8, calibrated on training images and",
        "scored on 10,000 test images. `iou` is the intersection over the union of all pixels of pasted",
        "items, `mean_iou` the mean of those of eleven classes of pixels; more is better. `noise_left` is",
        "the share of the noise's power that the answers leave; less is better.",
        "",
        f"| network | figure | float | {' | '.join(DEVICES)} |",
        f"| --- | --- | {' | '.join(['---'] * (1 + len(DEVICES)))} |",
        *rows,
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure one network and write the table anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=sorted(OTHERS))
    parser.add_argument("data", type=Path, help="folder of Fashion-MNIST, or pasted items")
    options = parser.parse_args()
    table: Table = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    table[options.model] = measured(options.model, options.data)
    RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(table))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
