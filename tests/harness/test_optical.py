"""The optical verbs on a small network of known answers."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from PIL import Image

from fourfold.errors import UsageError
from fourfold.harness.cli import main
from fourfold.harness.optical_frames import frames
from fourfold.harness.optical_plot import sweep_plot
from fourfold.harness.optical_sweep import Sweep, sweep, variations

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 1, 8, 8] image) => (float[batch, 4] logits) {
  a = Conv<pads = [1, 1, 1, 1]>(image, w, b)
  r = Relu(a)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  c = Conv(p, v)
  f = Flatten(c)
  logits = Gemm<transB = 1>(f, u)
}"""

COUNT = 96


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network, and pictures labelled by what it answers to them."""
    folder = tmp_path_factory.mktemp("optical")
    rng = np.random.default_rng(4)
    shapes = {"w": (6, 1, 3, 3), "b": (6,), "v": (5, 6, 3, 3), "u": (4, 20)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = parser.parse_model(NET)
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in weights.items())
    onnx.save(model, folder / "net.onnx")
    images = rng.normal(size=(COUNT, 1, 8, 8)).astype(np.float32)
    reference = ReferenceEvaluator(model)
    labels = reference.run(None, {"image": images})[0].argmax(1)
    np.savez(folder / "data.npz", image=images, labels=labels)
    return folder / "net.onnx", folder / "data.npz"


@pytest.fixture(scope="module")
def swept(files: tuple[Path, Path]) -> Sweep:
    points = variations(schemes=("homodyne", "pseudo-negative"), bits=(2, 10), photons=(1e4,))
    return sweep(str(files[0]), "optical-4f", points, seeds=2, images=64, eval_data=files[1])


def test_more_bits_are_better_and_the_float_network_is_right(swept: Sweep) -> None:
    assert swept.float_share.value == 1.0
    shares = {p.title: p.share.value for p in swept.points}
    assert len(shares) == 4
    assert shares["homodyne, 10 bits, 10000 electrons"] > 0.9
    assert shares["homodyne, 2 bits, 10000 electrons"] < shares["homodyne, 10 bits, 10000 electrons"]
    assert all(len(p.by_seed) == 2 and p.paired.n == 64 for p in swept.points)
    assert all(p.share.low <= p.share.value <= p.share.high for p in swept.points)


def test_the_budget_names_every_layer_and_cause(swept: Sweep) -> None:
    assert len(swept.budget) == 3
    for layer in swept.budget:
        causes = dict(layer.errors)
        whole = causes.pop("all together")
        assert {"saturation", "shot noise", "converter bits"} <= causes.keys()
        assert 0 < max(causes.values()) < 1
        assert whole > 0.5 * max(causes.values())


def test_the_picture_has_a_line_for_each_scheme(swept: Sweep) -> None:
    texts = [t.text or "" for t in ET.fromstring(sweep_plot(swept)).iter() if t.tag.endswith("text")]
    assert any(t.startswith("homodyne") for t in texts)
    assert any(t.startswith("pseudo-negative") for t in texts)
    assert "bits of the camera's converter" in texts


def test_the_same_sweep_gives_the_same_figures(files: tuple[Path, Path]) -> None:
    points = variations(bits=(4,))
    runs = [
        sweep(str(files[0]), "optical-4f", points, seeds=1, images=32, eval_data=files[1]) for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_every_point_is_set_up_on_samples_that_are_not_scored(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    with np.load(files[1]) as arrays:
        np.savez(tmp_path / "set_up.npz", image=arrays["image"][:40])
        np.savez(tmp_path / "scored.npz", image=arrays["image"][40:], labels=arrays["labels"][40:])
    name, points, own = str(files[0]), variations(bits=(4,)), tmp_path / "set_up.npz"
    few = sweep(name, "optical-4f-pn", points, seeds=1, images=8, eval_data=files[1])
    assert few.set_up_on == "the golden inputs"
    assert "its ranges are a guess; give --data" in few.warnings[0]
    apart = tmp_path / "scored.npz"
    many = sweep(name, "optical-4f-pn", points, seeds=1, images=8, data=own, eval_data=apart)
    assert (many.set_up_on, many.warnings) == ("npz: 40 samples", ())
    with pytest.raises(UsageError, match="samples to be disjoint, got 40 in both"):
        sweep(name, "optical-4f", points, data=own, eval_data=files[1])


def test_frames_read_back_are_the_convolution(files: tuple[Path, Path], tmp_path: Path) -> None:
    written = frames(str(files[0]), "optical-4f-pn", tmp_path / "frames")
    assert written.error < 1e-5
    assert written.frames == 4, "two masks beside both signs of the input"
    manifest = json.loads((tmp_path / "frames" / "manifest.json").read_text())
    assert len(manifest["frames"]) == written.frames
    for entry in manifest["frames"]:
        for name in entry["files"].values():
            assert (tmp_path / "frames" / name).is_file()
    plane = np.load(tmp_path / "frames" / "00-input.npy")
    assert list(plane.shape) == manifest["plane"]
    assert 0 <= plane.min() <= plane.max() <= 1
    mask = np.load(tmp_path / "frames" / "00-mask.npy")
    assert np.abs(mask).max() <= 1 + 1e-6
    left, top, right, bottom = manifest["tiles"][0]
    assert plane[top:bottom, left:right].any()
    outside = plane.copy()
    for left, top, right, bottom in manifest["tiles"]:
        outside[top:bottom, left:right] = 0
    assert not outside.any(), "nothing is lit between the tiles"
    with Image.open(tmp_path / "frames" / "overview.png") as overview:
        assert overview.height >= 100


def test_a_modulator_of_phases_shows_both_signs_at_once(files: tuple[Path, Path], tmp_path: Path) -> None:
    written = frames(str(files[0]), "optical-4f", tmp_path / "frames")
    assert written.error < 1e-5
    assert written.frames == 2, "one input beside two references"
    plane = np.load(tmp_path / "frames" / "00-input.npy")
    assert -1 <= plane.min() < 0 < plane.max() <= 1
    with Image.open(tmp_path / "frames" / "00-input-phase.png") as phase:
        np.testing.assert_array_equal(np.asarray(phase) > 0, plane < 0)


@pytest.mark.parametrize("device", ["optical-4f", "optical-4f-pn"])
def test_every_pass_that_is_counted_can_be_laid_out(
    files: tuple[Path, Path], tmp_path: Path, device: str
) -> None:
    passes = frames(str(files[0]), device, tmp_path / "first").passes
    for number in range(passes):
        written = frames(str(files[0]), device, tmp_path / str(number), number=number)
        assert (written.number, written.passes) == (number, passes)
    with pytest.raises(UsageError, match=f"expected a pass from 0 to {passes - 1}, got {passes}"):
        frames(str(files[0]), device, tmp_path / "beyond", number=passes)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["optical", *arguments])
    return int(ended.value.code or 0)


def test_the_sweep_on_the_command_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep.svg"
    line = ("sweep", str(files[0]), "--eval-data", str(files[1]), "--bits", "3..4", "--images", "16")
    assert run(*line, "--seeds", "1", "-o", str(out), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["simulated"] is True
    assert [p["variation"]["bits"] for p in document["points"]] == [3, 4]
    assert ET.fromstring(out.read_text()).tag.endswith("svg")
    assert run(*line, "-o", str(out)) == 2
    assert "expected no file" in capsys.readouterr().err


def test_tuned_weights_load_and_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small_net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    np.savez(tmp_path / "data.npz", input=np.random.default_rng(1).normal(size=(40, 1, 8, 8)).astype("f4"))
    out = tmp_path / "tuned.safetensors"
    line = ("tune", "small_net:make", "--input-shape", "1,8,8", "--data", str(tmp_path / "data.npz"))
    assert run(*line, "--bits", "4", "--steps", "3", "--batch", "8", "-o", str(out)) == 0
    assert "distance from the float answers" in capsys.readouterr().out
    assert out.stat().st_size > 1000
    assert run(*line, "-o", str(out)) == 2
    sys.modules.pop("small_net", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cpu-ort"), "expected an optical device, got cpu-ort"),
        (("--bits", "two"), "expected --bits like 8"),
        (("--bits", "99"), "expected 1 to 24 bits, got 99; leave them out"),
        (("--scheme", "homodine"), "homodyne"),
        (("--photons", "-1"), "expected photons above 0, got -1; leave them out"),
        (("--shift", "nan"), "expected --shift like"),
        (("--seeds", "0"), "expected 1 or more seeds"),
    ],
)
def test_what_makes_no_sense_is_refused(
    files: tuple[Path, Path], arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sweep", str(files[0]), "--eval-data", str(files[1]), "--images", "8", *arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "compiling" not in told
    assert "simulating" not in told


@pytest.mark.parametrize(("verb", "taken"), [("sweep", "folder"), ("tune", "folder"), ("frames", "file")])
def test_a_place_of_the_other_kind_is_never_overwritten(
    files: tuple[Path, Path], tmp_path: Path, verb: str, taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "taken"
    out.mkdir() if taken == "folder" else out.touch()
    assert run(verb, str(files[0]), "-o", str(out), "--overwrite") == 2
    assert f"got a {taken}; choose another -o" in capsys.readouterr().err
    assert out.exists()


def test_a_sweep_without_labels_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="expected labelled samples"):
        sweep(str(files[0]), "optical-4f", variations(), seeds=1)


def test_an_unknown_layer_or_pass_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="optical layer"):
        frames(str(files[0]), "optical-4f", tmp_path / "a", layer="nothing")
    with pytest.raises(UsageError, match="expected a pass from 0"):
        frames(str(files[0]), "optical-4f", tmp_path / "b", number=10_000)


def test_the_verbs_are_public_functions() -> None:
    import fourfold

    found = fourfold.optical.claim(digital_ms=10, frames=100, rate=20000, batch=4, share=0.5)
    assert found.claim.speed_up == pytest.approx(0.010 / (100 / 20000))
    assert found.whole == pytest.approx(1 / (0.5 + 0.5 / 2))
    assert fourfold.optical.sweep is sweep
    assert fourfold.optical.frames is frames
    assert callable(fourfold.optical.tune)
    with pytest.raises(AttributeError, match="no attribute 'optics'"):
        _ = fourfold.optics


def test_a_claim_is_what_its_inputs_amount_to(capsys: pytest.CaptureFixture[str]) -> None:
    line = ("claim", "--digital-ms", "10", "--frames", "100", "--rate", "20000", "--batch", "4", "--json")
    assert run(*line, "--share", "0.5") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["speed_up"] == pytest.approx(0.010 / (100 / 20000))
    assert found["whole"] == pytest.approx(1 / (0.5 + 0.5 / 2))
    assert found["samples_per_second"] == pytest.approx(800)
    assert found["times_fastest_camera"] == pytest.approx(1920 * 1080 * 20000 / 75e9)
    assert found["tornado"]["frames"] == pytest.approx([4, 1])
    assert run(*line, "--pixels", "wide") == 2
    assert "expected pixels like 1920x1080" in capsys.readouterr().err
