"""Engines that build what this machine cannot run, and engines that something stands in for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.errors import RunError, UnavailableError
from fourfold.harness import answers
from fourfold.harness.bench import bench
from fourfold.harness.bundle import Bundle
from fourfold.harness.deploy import deploy
from fourfold.harness.examine import Budget
from fourfold.harness.listing import availability
from fourfold.harness.subject import subject_of
from fourfold.harness.verify import verify
from fourfold.runtimes import ort
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.exhibit import Exhibit
from fourfold.runtimes.runtime import Session

QUICK = Budget(seconds=0.2)
NO_GPU = "no GPU was found"


class Absent(ort.OrtRuntime):
    """Builds, and cannot open."""

    def cannot_run(self, device: Device) -> str | None:
        return NO_GPU

    def open(self, compiled: Path, device: Device) -> Session:
        raise RunError("opened what cannot be opened")  # noqa: EM101

    def describe(self, compiled: Path, device: Device) -> tuple[Exhibit, ...]:
        picture = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
        return (
            Exhibit("Layers", ("layer", "kernel"), (("conv", "<gemm>"),), "From the build."),
            Exhibit("Frames", ("layer", "frames"), (("conv", "12"),), modelled=True, picture=picture),
        )


class Emulated(ort.OrtRuntime):
    """Opens, but as something else."""

    def emulated(self, device: Device) -> str | None:
        return "an emulator, not the kernels"


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "RUNTIME", Absent())


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "RUNTIME", Emulated())


@pytest.fixture
def unopened(idle: None, tmp_path: Path) -> Bundle:
    return deploy("smt_nano", "cpu-ort", precision="int8", out=tmp_path, budget=QUICK)


def test_a_bundle_that_cannot_run_here_says_what_was_checked(unopened: Bundle) -> None:
    report = unopened.report
    assert report.ok
    assert [v.gate for v in report.verdicts] == ["parity", "accuracy"]
    assert {p.candidate for p in report.parity} == {"graph", "int8 graph"}
    assert report.executed == ()
    assert report.latency is None
    assert report.latency_note == NO_GPU
    assert any(w.startswith("Built here, never run: no GPU was found.") for w in report.warnings)


def test_a_float16_graph_in_the_engines_stead_rounds_as_it_is_written() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]> net (float[B, 4] x) => (float[B, 4] y) {
        half = Cast<to = 10>(x) scaled = Mul(half, half) wide = Cast<to = 1>(scaled) y = Sin(wide)
    }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    x = np.random.default_rng(0).uniform(10, 40, (2, 4)).astype(np.float32)
    device = get_device("cpu-ort")
    subject = subject_of(Absent(), device, Path("none"), lambda: model, precision="fp16")
    with subject.open() as session:
        y = session.run({"x": x})["y"]
    half = x.astype(np.float16)
    np.testing.assert_allclose(y, np.sin((half * half).astype(np.float32)), atol=1e-6)


def test_what_an_engine_shows_reaches_the_report_and_the_page(unopened: Bundle) -> None:
    assert [shown.title for shown in unopened.report.exhibits] == ["Layers", "Frames"]
    page = (unopened.folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;gemm&gt;" in page
    assert page.count("modelled, not measured") == 1
    assert "<script>" not in page, "a picture is an image, never markup"


def test_verify_checks_the_graph_and_ends_as_unavailable(unopened: Bundle) -> None:
    found = verify(unopened.folder)
    assert found.ok
    assert not found.ran
    answer = answers.verification(found)
    assert answer.exit_code == UnavailableError.exit_code
    assert "never run" in answer.text
    assert json.loads(answer.json())["verification"]["ran"] is False


def test_what_cannot_run_here_is_not_timed_here(unopened: Bundle) -> None:
    with pytest.raises(UnavailableError, match=NO_GPU):
        bench([unopened.folder])
    assert availability(get_device("cpu-ort")) == f"builds, does not run: {NO_GPU}"


def test_an_emulation_is_checked_and_never_timed(emulated: None, tmp_path: Path) -> None:
    made = deploy("smt_nano", "cpu-ort", out=tmp_path, budget=QUICK)
    assert [v.gate for v in made.report.verdicts] == ["parity", "executed", "accuracy"]
    assert made.report.latency is None
    assert made.report.latency_note == "an emulator, not the kernels"
    assert "Checked by a stand-in: an emulator, not the kernels" in made.report.warnings
    found = verify(made.folder)
    assert found.ran
    assert answers.verification(found).exit_code == 0
    with pytest.raises(UnavailableError, match="an emulator"):
        bench([made.folder])
