"""A network with several exits is scored and labelled by the one that its spec names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fourfold.harness.bundle import Bundle
from fourfold.harness.deploy import deploy
from fourfold.models import registry
from fourfold.models.image_sets import FASHION_LABELS, FASHION_MNIST
from fourfold.models.spec import ModelSpec, TensorSpec
from fourfold.runtimes.coreml.description import read_specification


class TwoExits(nn.Module):
    """The first exit looks at one pixel, the second one at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(1, 10), nn.Linear(784, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.flatten(1)
        return self.early(pixels[:, 400:401]), self.late(pixels)


def spec(answer: str) -> ModelSpec:
    return ModelSpec(
        name="two_exits",
        build=TwoExits,
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        outputs=("early", "late"),
        answer=answer,
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


def made(
    answer: str, device: str, out: Path, monkeypatch: pytest.MonkeyPatch, *, app: bool = False
) -> Bundle:
    registry.model_names()
    monkeypatch.setattr(registry, "_builders", {**registry._builders, "two_exits": lambda: spec(answer)})
    return deploy("two_exits", device, app=app, out=out)


def expected(exit_: int) -> int:
    """Count the right answers of an exit on the shipped images, without the walk."""
    from fourfold.models.weights import build_model

    module, root = build_model(spec("")), Path(registry.__file__).parents[1]
    with np.load(root / "calibration" / "data" / "fashion_mnist.npz") as data:
        images, labels = data["test_images"], data["test_labels"]
    scaled = (images[:, None] / 255 - FASHION_MNIST.mean[0]) / FASHION_MNIST.std[0]
    with torch.no_grad():
        logits = module(torch.from_numpy(scaled.astype(np.float32)))[exit_]
    return int((logits.argmax(1).numpy() == labels).sum())


@pytest.mark.parametrize(("answer", "exit_"), [("", 0), ("late", 1)])
def test_the_named_exit_is_scored(
    answer: str, exit_: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = made(answer, "cpu-ort", tmp_path, monkeypatch)
    assert bundle.report.accuracy is not None
    assert abs(bundle.report.accuracy.correct - expected(exit_)) <= 1, "a tie may fall either way"
    assert expected(0) != expected(1)


def test_the_label_of_an_app_is_that_of_the_named_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = made("late", "iphone-15", tmp_path, monkeypatch, app=True)
    assert bundle.report.ok
    assert bundle.app is not None
    description = read_specification(bundle.app).description
    names = [feature.name for feature in description.output]
    assert description.predictedProbabilitiesName in names
    assert "early" in names, "logits still"
    assert "late" not in names, "probabilities now"
