"""A package for an app: pixels go in as they are, and a class label comes out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import RunError, UsageError
from fourfold.export.artifact import Exported
from fourfold.models.preprocess import prepare
from fourfold.models.spec import Preprocess
from fourfold.runtimes.coreml.app import app_package, file_name
from fourfold.runtimes.coreml.app_session import open_app
from fourfold.runtimes.coreml.description import SPECIFICATION, read_specification
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
    found = set[int]()
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


def test_the_first_of_several_outputs_is_the_one_that_classifies(
    build: Callable[..., Exported], tmp_path: Path
) -> None:
    text = NET.replace("logits)", "logits, float[batch, 4] more)").replace(
        "Flatten(p)", "Flatten(p) more = Neg(logits)"
    )
    w = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    feed = {"picture": prepare(pixels, replace(COLOURS, size=(6, 5), mode="RGB"))[None]}
    two = build(text, feed, w=w)
    app = app_package(two, COLOURS, ("cat", "dog", "bird", "fish"), PHONE, tmp_path / "app.mlpackage")
    answer = open_app(app, PHONE)(pixels)
    logits = two.golden.outputs["logits"]
    odds = np.exp(logits - logits.max())
    np.testing.assert_allclose(answer.outputs["logits"], odds / odds.sum(), rtol=1e-4)
    np.testing.assert_allclose(answer.outputs["more"], -logits, rtol=1e-4)
    assert answer.label == ("cat", "dog", "bird", "fish")[int(logits.argmax())]


def test_a_network_without_labels_gives_its_outputs(network: Exported, tmp_path: Path) -> None:
    app = app_package(network, COLOURS, (), PHONE, tmp_path / "app.mlpackage")
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    answer = open_app(app, PHONE)(pixels)
    batch = prepare(pixels, COLOURS.fitted(network.inputs[0]))[None]
    assert answer.label == ""
    expected = evaluate(network.model)({"picture": batch})["logits"]
    np.testing.assert_allclose(answer.outputs["logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (("cat", "dog"), r"as many labels as 'logits' has classes, got 2 labels for the shape \(1, 4\)"),
        (("cat", "dog", "cat", "fish"), "every label once, got 'cat' more than once"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    network: Exported, tmp_path: Path, labels: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        app_package(network, COLOURS, labels, PHONE, tmp_path / "app.mlpackage")


def test_a_fixed_batch_is_refused(build: Callable[..., Exported], tmp_path: Path) -> None:
    w = np.zeros((4, 3, 3, 3), np.float32)
    fixed = build(NET.replace("batch", "2"), {"picture": np.zeros((2, 3, 6, 5), np.float32)}, w=w)
    with pytest.raises(UsageError, match="one picture at a time, got 'picture' of shape"):
        app_package(fixed, COLOURS, (), PHONE, tmp_path / "app.mlpackage")


def test_a_package_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such package; compile it again"):
        open_app(tmp_path / "app.mlpackage", PHONE)


def test_a_package_without_our_facts_is_refused(network: Exported, tmp_path: Path) -> None:
    app = app_package(network, COLOURS, (), PHONE, tmp_path / "app.mlpackage")
    specification = read_specification(app)
    specification.description.metadata.userDefined.clear()
    (app / SPECIFICATION).write_bytes(specification.SerializeToString())
    with pytest.raises(RunError, match="to be a package of ours"):
        open_app(app, PHONE)


@pytest.mark.parametrize(
    ("name", "file"),
    [("smt_nano", "smt_nano"), ("timm-vit.b", "timm_vit_b"), ("4f", "Net_4f"), ("é", "Net__")],
)
def test_a_file_is_named_as_a_class_may_be(name: str, file: str) -> None:
    assert file_name(name) == f"{file}.mlpackage"


def test_a_network_of_two_inputs_takes_no_picture(build: Callable[..., Exported], tmp_path: Path) -> None:
    two = build(
        NET.replace("float[batch, 3, 6, 5] picture", "float[batch, 3, 6, 5] picture, float[batch, 1] more"),
        {"picture": np.zeros((1, 3, 6, 5), np.float32), "more": np.zeros((1, 1), np.float32)},
        w=np.zeros((4, 3, 3, 3), np.float32),
    )
    with pytest.raises(UsageError, match="one picture as input, got 2 inputs"):
        app_package(two, COLOURS, (), PHONE, tmp_path / "app.mlpackage")
