"""The walk as a function: what it leaves, and what its gates do when an engine is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import UnavailableError, UsageError
from fourfold.export.artifact import Feed
from fourfold.export.parity import Parity
from fourfold.harness.bundle import Bundle
from fourfold.harness.deploy import deploy, engine_for
from fourfold.harness.examine import Budget, executed_verdict, parity_verdict
from fourfold.harness.verify import verify
from fourfold.runtimes.device import get_device
from fourfold.runtimes.ort import RUNTIME as ORT
from fourfold.runtimes.runtime import Executed, Session

QUICK = Budget(seconds=0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("made")
    return deploy("smt_nano", "cpu-ort", precision="int8", out=out, budget=QUICK, command="a command")


def test_the_bundle_tells_the_whole_walk(made: Bundle) -> None:
    report = made.report
    assert report.ok, report.verdicts
    names = [step.name for step in report.history]
    assert names[:3] == ["build", "reparameterize", "to_onnx"]
    assert any(name.startswith("rewrite") for name in names)
    assert names[-1].startswith("quantize")
    assert all(p.ok for step in report.history for p in step.parity)
    assert {p.kind for p in report.parity} == {"int8-engine", "int8"}
    assert report.calibration is not None
    assert (report.calibration.kind, report.calibration.count) == ("real", 256)
    assert report.accuracy is not None
    assert report.accuracy.n == 2000
    assert report.accuracy.correct > 1750
    assert report.latency is not None
    assert report.command == made.manifest.command == "a command"
    assert {e.precision for e in report.executed} <= {"int8", "fp32"}
    assert report.warnings == ()


def test_golden_inputs_are_real_samples(made: Bundle) -> None:
    (images,) = made.golden.inputs.values()
    assert images.shape[1:] == (1, 28, 28)
    assert np.unique(images).size <= 256


def test_a_float_network_is_checked_on_the_samples_given(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((6, 196, 768)).astype(np.float32)
    np.savez(tmp_path / "real.npz", x=images)
    made = deploy("gaussian_block", "cpu-ort", data=tmp_path / "real.npz", out=tmp_path, budget=QUICK)
    (golden,) = made.golden.inputs.values()
    assert made.report.calibration is None
    assert all(any(np.array_equal(one, image) for image in images) for one in golden)


def test_a_bad_folder_of_samples_is_refused_in_float_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent"):
        deploy("gaussian_block", "cpu-ort", data=tmp_path / "absent", out=tmp_path, budget=QUICK)


def test_int8_is_smaller_than_float(made: Bundle, tmp_path: Path) -> None:
    plain = deploy("smt_nano", "cpu-ort", out=tmp_path, budget=QUICK)
    assert plain.report.sizes["model.onnx"] > 2 * made.report.sizes["model.onnx"]
    assert plain.report.accuracy is not None
    assert (plain.report.accuracy.broke, plain.report.accuracy.fixed) == (0, 0)


def test_a_bundle_verifies_itself(made: Bundle) -> None:
    found = verify(made.folder)
    assert found.ok
    assert found.warning == ""
    assert found.ran


class Lying:
    """A session that answers with something else."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> Lying:
        self.session.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(None, None, None)

    def run(self, feed: Feed) -> Feed:
        return {name: array[:, ::-1].copy() for name, array in self.session.run(feed).items()}

    def executed(self) -> tuple[Executed, ...]:
        return self.session.executed()


def test_an_engine_that_computes_something_else_fails_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = type(ORT).open
    monkeypatch.setattr(type(ORT), "open", lambda self, *a: Lying(opens(self, *a)))
    bundle = deploy("smt_nano", "cpu-ort", out=tmp_path, budget=QUICK)
    failed = {v.gate for v in bundle.report.verdicts if not v.ok}
    assert failed == {"parity", "accuracy"}
    assert not bundle.report.ok
    assert not verify(bundle.folder).ok


def test_synthetic_calibration_marks_the_report(tmp_path: Path) -> None:
    bundle = deploy(
        "smt_nano", "cpu-ort", precision="int8", synthetic_calibration=True, out=tmp_path, budget=QUICK
    )
    assert bundle.report.calibration is not None
    assert bundle.report.calibration.kind == "synthetic"
    assert any("ynthetic" in warning for warning in bundle.report.warnings)
    assert "ynthetic" in (bundle.folder / "report.html").read_text()


def test_an_engine_that_doubles_the_quantization_noise_fails() -> None:
    def found(candidate: str, sqnr: float) -> Parity:
        return Parity("int8", "float model", candidate, 4, 0.1, 0.1, sqnr, "logits", True)

    assert parity_verdict((found("compiled", 30.0), found("int8 graph", 31.0))).ok
    assert not parity_verdict((found("compiled", 22.0), found("int8 graph", 31.0))).ok


def test_calibration_and_evaluation_may_not_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12) % 10
    np.savez(tmp_path / "a.npz", images=images[:8], labels=labels[:8])
    np.savez(tmp_path / "b.npz", images=images[6:], labels=labels[6:])
    with pytest.raises(UsageError, match="2 in both"):
        deploy(
            "smt_nano",
            "cpu-ort",
            precision="int8",
            data=tmp_path / "a.npz",
            eval_data=tmp_path / "b.npz",
            out=tmp_path,
        )


@pytest.mark.parametrize(
    ("shares", "precision", "ok"),
    [
        ({"fp32": 1.0}, "fp32", True),
        ({"fp32": 0.9, "bf16": 0.1}, "fp32", False),
        ({"fp32": 1.0}, "int8", False),
        ({"fp32": 0.4, "int8": 0.6}, "int8", True),
        ({"int8": 0.6, "fp16": 0.4}, "int8", False),
        ({"fp32": 0.1, "fp16": 0.9}, "fp16", True),
        ({"fp32": 1.0}, "fp16", False),
        ({"fp32": 0.5, "analog": 0.5}, "analog", True),
    ],
)
def test_what_ran_is_compared_with_what_was_asked(shares: dict[str, float], precision: str, ok: bool) -> None:
    executed = tuple(Executed("CPU", name, 1, share) for name, share in shares.items())
    assert executed_verdict(executed, precision).ok is ok  # type: ignore[arg-type]


def test_a_device_that_is_not_here_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        engine_for(get_device("intel-npu"), "fp32")
