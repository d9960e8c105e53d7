"""The step that makes weights smaller: who is refused, what it leaves, and when it stops the walk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from fourfold.errors import UsageError, VerdictError
from fourfold.export.artifact import Compression
from fourfold.harness.answers import bundle as answer
from fourfold.harness.bundle import Bundle
from fourfold.harness.compressing import check_compression
from fourfold.harness.deploy import deploy
from fourfold.harness.verify import verify
from fourfold.runtimes import coreml
from fourfold.runtimes.coreml.runtime import CoreMlRuntime
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.engines import BUILT, get_runtime
from fourfold.runtimes.runtime import Compressed, Compresses

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 64] x) => (float[batch, 10] y) { h = MatMul(x, v)  r = Relu(h)  y = MatMul(r, w) }"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, proto = np.random.default_rng(2), parser.parse_model(NET)
    shapes = {"v": (64, 96), "w": (96, 10)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def small(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("small")
    return deploy(str(network), "iphone-16", compression="int4", out=out)


def test_the_step_is_told_and_held_against_the_one_before(small: Bundle) -> None:
    report = small.report
    assert report.ok, report.verdicts
    assert report.title == small.folder.name == "net@iphone-16-fp16-int4-weights"
    step = report.history[-1]
    assert (step.name, step.changed) == ("compress weights", 1)
    (compared,) = step.parity
    assert (compared.kind, compared.reference) == ("int4-weights", "compiled")
    assert 5 < compared.sqnr_db < 40
    assert {p.kind for p in report.parity} == {"int4-weights"}
    assert {e.precision for e in report.executed} == {"fp16", "fp32"}, "weights are stored, not computed with"
    shown = next(e for e in report.exhibits if e.title == "Weights in fewer bits")
    assert shown.rows[0][1:3] == ("64x96", "int4 in blocks of 32")
    assert "weights: 1 weights in fewer bits" in answer(small).text
    assert "net<wbr>@iphone-16<wbr>-fp16-int4-weights" in (small.folder / "report.html").read_text()


def test_only_the_small_package_is_in_the_bundle_and_it_verifies(small: Bundle) -> None:
    assert [p.name for p in (small.folder / "compiled").iterdir()] == ["model.mlpackage"]
    assert not [p for p in small.folder.iterdir() if p.name.startswith("tmp")]
    found = verify(small.folder)
    assert found.ok
    assert {p.kind for p in found.parity} == {"int4-weights"}


def test_an_engine_without_it_is_refused_before_any_work(network: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stores weights in int8 by themselves, got ort; leave"):
        deploy(str(network), "cpu-ort", compression="int8", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_old_system_is_refused_before_any_work(network: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a device with iOS 18 .* got iphone-15 with iOS17"):
        deploy(str(network), "iphone-15", compression="int4", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_integers_are_not_compressed_again() -> None:
    with pytest.raises(UsageError, match="got --precision int8, whose weights are integers already"):
        check_compression(get_runtime("coreml"), get_device("iphone-16"), "int8", "int4")


@pytest.mark.parametrize("name", BUILT)
def test_the_table_and_the_protocol_agree(name: str) -> None:
    runtime = get_runtime(name)
    assert bool(runtime.capabilities.compressions) == isinstance(runtime, Compresses)


class Ruining(CoreMlRuntime):
    """Compresses into another network."""

    def compress(self, compiled: Path, device: Device, compression: Compression, out: Path) -> Compressed:
        made = super().compress(compiled, device, compression, out)
        blob = next(made.path.rglob("weight.bin"))
        data = np.frombuffer(blob.read_bytes(), np.uint8).copy()
        data[1024:5120] ^= 0x55  # amid 6,144 weights of one byte
        blob.write_bytes(data.tobytes())
        return made


def test_a_network_that_no_longer_answers_stops_the_walk(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreml, "RUNTIME", Ruining())
    with pytest.raises(VerdictError, match="step 'compress weights': expected compiled with smaller weights"):
        deploy(str(network), "iphone-16", compression="int8", out=tmp_path)
    assert not list(tmp_path.iterdir())
