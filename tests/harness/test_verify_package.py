"""``fourfold verify`` of Core ML packages that others made."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fourfold.export.quiet import quiet
from fourfold.harness.cli import main

Run = Callable[..., tuple[int, str, str]]
X = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        for number, handler in before.items():
            signal.signal(number, handler)
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear layer and a softmax in fp16."""
    ct: Any = pytest.importorskip("coremltools", exc_type=ImportError)
    weight = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    with quiet():
        from coremltools.converters.mil import Builder as mb

        @mb.program(input_specs=[mb.TensorSpec(shape=(2, 6))], opset_version=ct.target.iOS16)
        def net(x: Any) -> Any:
            return mb.softmax(x=mb.linear(x=x, weight=weight, name="hidden"), name="y")

        path = tmp_path_factory.mktemp("package") / "net.mlpackage"
        ct.convert(net, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16).save(str(path))
    return path


@pytest.fixture
def answer(package: Path) -> np.ndarray:
    from fourfold.runtimes.coreml.mil.program import load_program

    return load_program(package).run({"x": X})["y"]


def test_without_golden_answers_it_tells_what_is_inside(run: Run, package: Path) -> None:
    code, out, _ = run("verify", package, "-q")
    assert code == 0
    for part in (
        "input x: float32 (2, 6)",
        "output y: float32 (2, 4)",
        "operators: 2 cast, 1 linear, 1 softmax",
        "results: 3 fp16, 1 fp32",
        "evaluation: ok: every operator evaluates on fresh inputs; rounding to fp16 leaves",
        "warning: checks conversion and compression, not Apple's kernels",
    ):
        assert part in out


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_right_golden_answers_are_met(
    run: Run, package: Path, answer: np.ndarray, tmp_path: Path, kind: str
) -> None:
    golden = tmp_path / f"golden.{kind}"
    if kind == "npz":
        np.savez(golden, x=X, y=answer)
    else:
        save_file({"in.x": X, "out.y": answer}, golden)
    code, out, _ = run("verify", package, "--golden", golden, "--json", "-q")
    told = json.loads(out)
    assert (code, told["ok"]) == (0, True)
    assert told["package"]["parity"][0]["kind"] == "fp16"


def test_wrong_golden_answers_are_exit_code_1(
    run: Run, package: Path, answer: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "golden.npz", x=X, y=answer[::-1])
    code, out, _ = run("verify", package, "--golden", tmp_path / "golden.npz", "-q")
    assert code == 1
    assert "parity: FAILED: package differs from golden in 'y'" in out


def test_a_tensor_is_traced_and_saved(run: Run, package: Path, tmp_path: Path) -> None:
    code, out, _ = run("verify", package, "--trace", "hidden_cast_fp16", "--save-trace", "kept.npz", "-q")
    assert code == 0
    assert "tensor hidden_cast_fp16: 2 x 4, " in out
    assert np.load(tmp_path / "kept.npz")["hidden_cast_fp16"].shape == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trace", "hidden"), "expected a known tensor, got 'hidden'; did you mean hidden_cast_fp16"),
        (("--golden", "none.npz"), "expected a file of golden answers, got none.npz, which is no file"),
        (("--golden", "junk.npz"), "junk.npz: expected arrays as .safetensors or .npz, got"),
        (("--golden", "junk.safetensors"), "junk.safetensors: expected arrays as .safetensors or .npz, got"),
        (("--golden", "other.npz"), "other.npz: expected the input 'x', got a, b"),
        (("--golden", "half.npz"), "half.npz: expected one of the outputs y, got x"),
        (("--save-trace", "kept.npz"), "expected --trace NAME for kept.npz, got none"),
        (
            ("--trace", "x", "--save-trace", "half.npz"),
            "expected a new file for the traced tensors, got half.npz",
        ),
        (("--trace", "x", "--save-trace", "no/t.npz"), "got no/t.npz, whose folder does not exist"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    run: Run, package: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    for name in ("junk.npz", "junk.safetensors"):
        (tmp_path / name).write_bytes(b"this is no archive")
    np.savez(tmp_path / "other.npz", a=X, b=X)
    np.savez(tmp_path / "half.npz", x=X)
    code, out, err = run("verify", package, *arguments, "-q")
    assert (code, out) == (2, "")
    assert message in err


def test_unknown_operators_are_a_negative_verdict(run: Run, package: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(package, tmp_path / "odd.mlpackage"))
    file = copy / "Data/com.apple.CoreML/model.mlmodel"
    file.write_bytes(file.read_bytes().replace(b"softmax", b"sortmix"))
    code, out, _ = run("verify", copy, "-q")
    assert code == 1
    assert "operators: FAILED: operators that are not known here: sortmix (first at 'y_cast_fp16')" in out


def test_a_damaged_package_is_exit_code_3(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.mlpackage").mkdir()
    code, out, err = run("verify", tmp_path / "empty.mlpackage", "-q")
    assert (code, out) == (3, "")
    assert "empty.mlpackage: expected a Core ML package, got a folder without Manifest.json" in err


def test_a_bundle_takes_no_options_of_packages(run: Run, tmp_path: Path) -> None:
    code, _, err = run("verify", tmp_path, "--trace", "x")
    assert code == 2
    assert "expected a .mlpackage with --golden, --trace or --save-trace, got a bundle" in err


@pytest.mark.parametrize(("label", "code"), [("dog", 0), ("cat", 1)])
def test_labels_are_compared_too(run: Run, tmp_path: Path, label: str, code: int) -> None:
    ct: Any = pytest.importorskip("coremltools", exc_type=ImportError)
    with quiet():
        from coremltools.converters.mil import Builder as mb

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 2))], opset_version=ct.target.iOS16)
        def net(x: Any) -> Any:
            return mb.softmax(x=x, name="odds")

        config = ct.ClassifierConfig(["cat", "dog"], predicted_probabilities_output="odds")
        model = ct.convert(
            net,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            classifier_config=config,
        )
        model.save(str(tmp_path / "pets.mlpackage"))
    np.savez(tmp_path / "golden.npz", x=np.array([[0.0, 2.0]], np.float32), classLabel=np.array(label))
    found, out, _ = run("verify", tmp_path / "pets.mlpackage", "--golden", "golden.npz", "-q")
    assert found == code
    assert ("differs" in out) == bool(code)
