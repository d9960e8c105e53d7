"""The shipped weights are those of their records, and score what the records say."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fourfold
from fourfold.models.preprocess import prepare
from fourfold.models.registry import get_spec, model_names
from fourfold.models.weights import build_model

ROOT = Path(fourfold.__file__).parent
TRAINED = ROOT / "models" / "trained"
RECORDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(TRAINED.glob("*.json"))
}
DECISIVE = {"steps", "batch", "seed", "peak_lr", "warmup", "weight_decay", "label_smoothing", "shift", "ema"}
"""What a recipe cannot be repeated without."""


def test_every_file_of_weights_belongs_to_a_network_and_has_a_record() -> None:
    used = {spec.weights for spec in map(get_spec, model_names()) if spec.weights}
    files = {path.name for path in TRAINED.glob("*.safetensors")}
    assert used == files == {f"{name}.safetensors" for name in RECORDS}


@pytest.mark.parametrize("name", RECORDS)
def test_record_names_these_weights_and_how_they_came_about(name: str) -> None:
    record, weights = RECORDS[name], TRAINED / f"{name}.safetensors"
    assert record["model"] == name
    assert get_spec(name).weights == weights.name
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["recipe"].keys() >= DECISIVE | {"optimizer", "schedule"}
    data = r"(Fashion-MNIST( pasted over CIFAR-10)?|CIFAR-10), all [56]0,000 training images$"
    assert re.match(data, record["data"])
    assert weights.stat().st_size < 2_600_000


def test_page_of_the_weights_says_what_the_records_say() -> None:
    row = r"^\| `(\w+)` \| ([\w -]+) \| ([\d,]+) \| (?:(\w+) \| )?([\d.]+) % \|"
    rows = re.findall(row, (TRAINED / "README.md").read_text(), re.M)
    said = {
        name: (data, int(steps.replace(",", "")), figure or "accuracy", value)
        for name, data, steps, figure, value in rows
    }
    assert said == {
        name: (record["data"].split(",")[0], record["recipe"]["steps"], *figure_of(record))
        for name, record in RECORDS.items()
    }


def figure_of(record: dict[str, Any]) -> tuple[str, str]:
    """Give name and percentage of what 10,000 test images were scored by."""
    ((name, value),) = ((key, value) for key, value in record.items() if key.endswith("_10000"))
    return name.removesuffix("_10000"), f"{100 * value:.2f}"


@pytest.mark.parametrize("name", [n for n in RECORDS if get_spec(n).dataset == "fashion_mnist"])
def test_weights_score_what_the_record_says(name: str) -> None:
    spec = get_spec(name)
    assert spec.preprocess is not None
    with np.load(ROOT / "calibration" / "data" / "fashion_mnist.npz") as data:
        images, labels = data["test_images"], torch.from_numpy(data["test_labels"])
    inputs = np.stack([prepare(image, spec.preprocess) for image in images])
    model = build_model(spec)
    with torch.no_grad():
        answers = [model(torch.from_numpy(x)) for x in np.split(inputs, 4)]
    logits = torch.cat([a if isinstance(a, torch.Tensor) else a[-1] for a in answers])
    right = int((logits.argmax(1) == labels).sum())
    assert right == round(len(labels) * RECORDS[name]["accuracy_shipped_2000"])
