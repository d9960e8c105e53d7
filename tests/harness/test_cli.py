"""Every verb and every kind of bad input: the exit code, one sentence, and nothing half-made."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fourfold.harness import console
from fourfold.harness.cli import main

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--seconds", "0.2")
SMT = ("export", "smt_nano", "--device", "cpu-ort")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in an empty folder; gives exit code, stdout and stderr."""
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


def small_net(path: Path, *, shape: tuple[int | str, ...] = ("batch", 3, 8, 8)) -> Path:
    """Write a convolution, a ReLU and a classifier as an ONNX file."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
        "fc": rng.normal(size=(4, 5)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
            helper.make_node("MatMul", ["f", "fc"], ["y"], name="fc"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def pictures(folder: Path, count: int = 10, size: tuple[int, int] = (8, 8)) -> Path:
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("**/*") if "@" in p.name or p.name.startswith("."))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("export", "smt_nanoo", "--device", "cpu-ort"), 2, "did you mean smt_nano"),
        (("export", "smt_nano", "--device", "cpu-orrt"), 2, "did you mean cpu-ort"),
        ((*SMT, "--precision", "int7"), 2, "int7"),
        (
            (*SMT, "--data", "nowhere", "--precision", "int8"),
            2,
            "nowhere",
        ),
        (
            (*SMT, "--weights", "gone.safetensors"),
            2,
            "gone.safetensors",
        ),
        (("export", "gone.onnx", "--device", "cpu-ort"), 2, "gone.onnx"),
        (("export", "nomodule:make", "--device", "cpu-ort", "--input-shape", "3,8,8"), 2, "nomodule"),
        ((*SMT, "--input-shape", "3,x"), 2, "--input-shape"),
        (("export", "smt_nano", "--device", "jetson-orin"), 5, "builds on a machine with that GPU"),
        (("export", "smt_nano"), 2, "--device"),
        (("verify", "nothing"), 2, "nothing"),
        (("compare", "nothing"), 2, "two or more"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_wrong_names(run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert sentence in err
    assert "Traceback" not in err
    assert leftovers(tmp_path) == []


def test_int8_without_samples_says_what_to_give(run: Run, tmp_path: Path) -> None:
    small_net(tmp_path / "net.onnx")
    code, _, err = run("export", "net.onnx", "--device", "cpu-ort", "--precision", "int8")
    assert code == 2
    assert "--data" in err
    assert "--synthetic-calibration" in err


def _empty(folder: Path) -> None:
    folder.mkdir()


def _broken(folder: Path) -> None:
    pictures(folder)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])


def _no_pictures(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")


def _wrong_size(folder: Path) -> None:
    pictures(folder, size=(9, 8))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [(_empty, "data"), (_broken, "3.png"), (_no_pictures, "data"), (_wrong_size, "8")],
)
def test_bad_samples(run: Run, tmp_path: Path, make: Callable[[Path], None], sentence: str) -> None:
    small_net(tmp_path / "net.onnx")
    make(tmp_path / "data")
    order = ("--device", "cpu-ort", "--precision", "int8", "--data", "data", "--resize", "exact")
    code, _, err = run("export", "net.onnx", *order)
    assert code == 2
    assert sentence in err
    assert leftovers(tmp_path) == []


def _truncated(path: Path) -> None:
    path.write_bytes(small_net(path).read_bytes()[:-50])


def _escaping(path: Path) -> None:
    model = onnx.load(small_net(path))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())


def _absurd(path: Path) -> None:
    model = onnx.load(small_net(path))
    model.graph.initializer[0].dims[:] = [2**40, 2**20]
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("make", [_truncated, _escaping, _absurd])
def test_hostile_onnx(run: Run, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "net.onnx")
    code, out, err = run("export", "net.onnx", "--device", "cpu-ort")
    assert (code, out) == (3, "")
    assert err.count("error:") == 1
    assert leftovers(tmp_path) == []


def test_an_existing_bundle_stays(run: Run, tmp_path: Path) -> None:
    small_net(tmp_path / "net.onnx")
    order = ("export", "net.onnx", "--device", "cpu-ort", *QUICK)
    assert run(*order)[0] == 0
    manifest = tmp_path / "out/net@cpu-ort-fp32/manifest.json"
    first = manifest.read_bytes()
    code, _, err = run(*order)
    assert code == 2
    assert "--overwrite" in err
    assert manifest.read_bytes() == first
    assert run(*order, "--overwrite")[0] == 0
    assert manifest.read_bytes() != first


def test_no_space(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    small_net(tmp_path / "net.onnx")
    monkeypatch.setattr("fourfold.harness.deploy.write_bundle", full)
    code, _, err = run("export", "net.onnx", "--device", "cpu-ort", *QUICK)
    assert code == 3
    assert "space" in err
    assert leftovers(tmp_path) == []


def test_interrupt_at_every_stage(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_net(tmp_path / "net.onnx")
    pictures(tmp_path / "data")
    seen: list[str] = []
    stop_at: list[int] = []

    @contextmanager
    def stage(self: console.Console, text: str) -> Generator[None]:
        seen.append(text)
        if len(seen) - 1 in stop_at:
            raise KeyboardInterrupt
        yield

    monkeypatch.setattr(console.Console, "stage", stage)
    order = ("export", "net.onnx", "--device", "cpu-ort", "--precision", "int8", "--data", "data", *QUICK)
    assert run(*order)[0] == 0
    stages = len(seen)
    assert stages >= 5
    before = leftovers(tmp_path)
    for number in range(stages):
        seen.clear()
        stop_at[:] = [number]
        assert run(*order, "--overwrite")[0] == 130
        assert leftovers(tmp_path) == before


def test_interrupt_of_a_real_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fourfold", "export", "smt_nano", "--device", "cpu-ort"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert leftovers(tmp_path) == []


def test_the_users_own_factory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    stem = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()\n"
        "    return nn.Sequential(*stem, nn.Flatten(), nn.Linear(288, 4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = run(
        "export", "mynet:make", "--device", "cpu-openvino", "--input-shape", "3,8,8", "--json", *QUICK
    )
    assert code == 0
    document = json.loads(out)
    assert document["ok"]
    folder = Path(document["bundle"])
    assert run("verify", folder)[0] == 0
    code, out, _ = run("compare", folder, folder, "--seconds", "0.5", "--json")
    assert code == 0
    assert json.loads(out)[0]["verdict"] in {"equivalent", "inconclusive"}
    assert run("bench", folder, "--save", *QUICK)[0] == 0
    assert run("verify", folder)[0] == 0
    code, out, _ = run("report", folder, "-o", "page.html")
    assert code == 0
    assert "mynet" not in out or "make@cpu-openvino-fp32" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("verb", ["models", "devices", "doctor"])
def test_listings(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--json")
    assert code == 0
    assert json.loads(out)
    code, out, _ = run(verb)
    assert code == 0
    assert {"models": "smt_nano", "devices": "cpu-ort", "doctor": "onnxruntime"}[verb] in out


def test_help_needs_no_torch() -> None:
    code = """
import sys
from fourfold.harness.cli import main
try:
    main(["--help"])
except SystemExit:
    print([m for m in ("torch", "onnx", "numpy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.endswith("[]\n"), done.stderr
