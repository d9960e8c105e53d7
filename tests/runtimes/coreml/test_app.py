"""A package for an app: pixels go in as they are, and a class label comes out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import UsageError
from fourfold.export.artifact import Exported
from fourfold.models.preprocess import prepare
from fourfold.models.spec import Preprocess
from fourfold.runtimes.coreml.app import app_package
from fourfold.runtimes.coreml.mil.program import load_program
from fourfold.runtimes.device import Device
from fourfold.runtimes.reference import evaluate

PHONE = Device("phone", "a phone", "coreml", "aarch64", "ios", "ANE", target="iOS17")
NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 3, 6, 5] picture) => (float[batch, 4] logits) {
  a = Conv(picture, w)  p = GlobalAveragePool(a)  logits = Flatten(p) }"""
COLOURS = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), resize="exact")


@pytest.fixture
def network(build: Callable[..., Exported]) -> Exported:
    w = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    return build(NET, {"picture": np.zeros((1, 3, 6, 5), np.float32)}, w=w)


def test_the_label_is_that_of_the_prepared_picture(network: Exported, tmp_path: Path) -> None:
    labels = ("cat", "dog", "bird", "fish")
    package = app_package(network, COLOURS, labels, PHONE, tmp_path / "app.mlpackage")
    program = load_program(package)
    found = set()
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3)).astype(np.uint8)
        batch = prepare(pixels, COLOURS.fitted(network.inputs[0]))[None]
        logits = evaluate(network.model)({"picture": batch})["logits"][0]
        given = program.run({"picture": pixels.transpose(2, 0, 1)[None]})
        label, scores = (given[output.name] for output in program.outputs)
        assert str(label.reshape(-1)[0] if label.ndim else label) == labels[int(logits.argmax())]
        odds = np.exp(logits - logits.max())
        np.testing.assert_allclose(scores.reshape(-1), odds / odds.sum(), rtol=1e-4)
        found.add(int(logits.argmax()))
    assert len(found) > 1


def test_a_network_of_two_inputs_takes_no_picture(build: Callable[..., Exported], tmp_path: Path) -> None:
    two = build(
        NET.replace("float[batch, 3, 6, 5] picture", "float[batch, 3, 6, 5] picture, float[batch, 1] more"),
        {"picture": np.zeros((1, 3, 6, 5), np.float32), "more": np.zeros((1, 1), np.float32)},
        w=np.zeros((4, 3, 3, 3), np.float32),
    )
    with pytest.raises(UsageError, match="one picture as input, got 2 inputs"):
        app_package(two, COLOURS, (), PHONE, tmp_path / "app.mlpackage")
