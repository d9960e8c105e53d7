"""The form that an app wants: who gets one, what it is held against, and what the package says of itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper, parser

from fourfold.errors import UsageError, VerdictError
from fourfold.export.artifact import Exported
from fourfold.harness.answers import bundle as answer
from fourfold.harness.bundle import Bundle
from fourfold.harness.card import card_of
from fourfold.harness.deploy import deploy
from fourfold.harness.verify import verify
from fourfold.models.registry import get_spec
from fourfold.models.spec import Card, Preprocess
from fourfold.runtimes import coreml
from fourfold.runtimes.coreml.description import SOURCE, read_specification
from fourfold.runtimes.coreml.runtime import CoreMlRuntime
from fourfold.runtimes.device import Device

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 3, 8, 7] picture) => (float[batch, 3] logits) {
  a = Conv<pads = [1, 1, 1, 1]>(picture, v)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p)
  logits = Gemm<transB = 1>(f, w, b) }"""
SHAPES = {"v": (96, 3, 3, 3), "w": (3, 96), "b": (3,)}
COLOURS = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), resize="exact")
LABELS = ("cat", "dog", "bird")
CARD = Card("Ada", "CC0-1.0", "2.1", "Tells animals apart.")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng, proto = np.random.default_rng(2), parser.parse_model(NET)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    onnx.save(proto, path)
    return str(path)


@pytest.fixture(scope="module")
def made(network: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("made")
    return deploy(
        network,
        "iphone-15",
        app=True,
        compression="int8",
        preprocess=COLOURS,
        labels=LABELS,
        card=CARD,
        out=out,
    )


def test_the_package_is_in_the_bundle_and_held_against_the_network(made: Bundle) -> None:
    assert made.app == made.folder / "app" / "net.mlpackage"
    assert made.report.ok
    step = made.report.history[-1]
    assert step.name == "app package"
    (compared,) = step.parity
    assert (compared.kind, compared.candidate, compared.batch) == ("fp16", "app package", 2)
    assert compared.sqnr_db > 40
    said = "app: net.mlpackage takes a colour picture of 7 by 8 pixels and gives a label of 3"
    assert said in answer(made).text
    assert not [path for path in made.folder.iterdir() if path.name.startswith("tmp")]


def test_both_packages_say_who_made_what(made: Bundle) -> None:
    assert made.app is not None
    for package in (made.compiled, made.app):
        metadata = read_specification(package).description.metadata
        assert (metadata.author, metadata.license) == ("Ada", "CC0-1.0")
        assert (metadata.versionString, metadata.shortDescription) == ("2.1", "Tells animals apart.")
        assert metadata.userDefined[SOURCE] == made.manifest.files["model.onnx"].sha256
        assert "fourfold.weights" in metadata.userDefined, "both are compressed"
    assert made.manifest.card == CARD
    description = read_specification(made.app).description
    assert "A picture of 7 by 8 pixels" in description.input[0].shortDescription
    assert all(feature.shortDescription for feature in description.output)
    shown = next(e for e in made.report.exhibits if e.title == "What the package says of itself")
    assert ("licence", "CC0-1.0") in shown.rows


def test_verify_asks_the_app_as_well(made: Bundle) -> None:
    found = verify(made.folder)
    assert found.ok
    assert [v.gate for v in found.verdicts] == ["parity", "executed", "app"]
    assert found.parity[-1].candidate == "app package"


@pytest.mark.parametrize("batches", [[1, 1, 1], [2, 2, 3]])
def test_a_device_of_few_batches_is_checked_within_them(
    network: str, tmp_path: Path, batches: list[int]
) -> None:
    rows = tmp_path / "rows.yaml"
    row = {"name": "few", "title": "few", "runtime": "coreml", "arch": "aarch64", "unit": "ANE"}
    rows.write_text(yaml.safe_dump([row | {"batches": batches}]))
    few = deploy(network, "few", devices=rows, app=True, preprocess=COLOURS, out=tmp_path / "out")
    assert few.report.ok
    (feature,) = read_specification(few.compiled).description.input
    ranges = feature.type.multiArrayType.shapeRange.sizeRanges
    sizes = [(r.lowerBound, r.upperBound) for r in ranges] or [
        (n, n) for n in feature.type.multiArrayType.shape
    ]
    assert sizes[0] == (batches[0], batches[2])
    assert verify(few.folder).ok


class Told:
    """Remembers the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    @contextmanager
    def stage(self, text: str) -> Generator[None]:
        self.stages.append(text)
        yield

    def note(self, text: str) -> None:
        """Nothing is remembered."""


@pytest.mark.parametrize(
    ("device", "preprocess", "sentence"),
    [
        ("cpu-ort", COLOURS, "expected an engine that makes packages for apps, got ort"),
        ("iphone-15", None, "expected to know how pictures become the input of net"),
    ],
)
def test_an_app_that_cannot_be_made_is_refused_before_any_work(
    network: str, tmp_path: Path, device: str, preprocess: Preprocess | None, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        deploy(network, device, app=True, preprocess=preprocess, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_labels_that_do_not_fit_leave_nothing(network: str, tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(UsageError, match="as many labels as 'logits' has classes, got 2"):
        deploy(network, "iphone-15", preprocess=COLOURS, labels=("a", "b"), out=tmp_path, narrator=told)
    assert told.stages == ["reading net.onnx"]
    with pytest.raises(UsageError, match="every label once, got 'a' more than once"):
        deploy(network, "iphone-15", app=True, preprocess=COLOURS, labels=("a", "a"), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_of_the_zoo_is_asked_how_many_classes_it_has_before_it_is_exported(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(UsageError, match=r"got 2 labels for the shape \(1, 10\)"):
        deploy("ep_nano", "cpu-ort", labels=("a", "b"), out=tmp_path, narrator=told)
    assert told.stages == ["building ep_nano"]
    assert not list(tmp_path.iterdir())


class Forgetful(CoreMlRuntime):
    """Leaves the deviation out of its packages for apps."""

    def make_app(
        self, exported: Exported, device: Device, preprocess: Preprocess, labels: Sequence[str], out: Path
    ) -> Path:
        wrong = Preprocess(preprocess.mean, (1.0,), resize="exact")
        return super().make_app(exported, device, wrong, labels, out)


def test_an_app_that_answers_otherwise_stops_the_walk(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreml, "RUNTIME", Forgetful())
    with pytest.raises(VerdictError, match="step 'app package': expected app package to equal compiled"):
        deploy(network, "iphone-15", app=True, preprocess=COLOURS, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_zoo_knows_its_own_and_says_nothing_of_others() -> None:
    spec = get_spec("smt_nano")
    ours = card_of("smt_nano", spec, "fp16", None, own_weights=False)
    assert (ours.author, ours.licence) == ("the fourfold authors", "Apache-2.0")
    assert ours.description.startswith("smt_nano in fp16: the blocks of Scale-Aware Modulation")
    assert card_of("smt_nano", spec, "fp16", None, own_weights=True).author == ""
    assert card_of("my.module:smt_nano", spec, "fp16", None, own_weights=False).licence == ""
    assert card_of("smt_nano", spec, "fp16", Card(licence="MIT"), own_weights=False).licence == "MIT"
