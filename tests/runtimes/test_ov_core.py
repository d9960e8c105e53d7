"""OpenVINO neither reports home nor changes precision, and plans for the shapes it meets."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import BuildError, RunError
from fourfold.export.artifact import Exported
from fourfold.runtimes import ov
from fourfold.runtimes.device import Device, get_device

DEVICE = get_device("cpu-openvino")

if reason := ov.RUNTIME.missing(DEVICE):
    pytest.skip(reason, allow_module_level=True)

Build = Callable[..., Exported]

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 4] x) => (float[batch, 4] y) { m = MatMul(x, w)  y = Relu(m) }"""


@pytest.fixture
def compiled(build: Build, tmp_path: Path) -> Path:
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    return ov.RUNTIME.compile(build(NET, {"x": np.ones((1, 4), np.float32)}, w=w), DEVICE, tmp_path)


def test_openvino_reports_nothing_home(compiled: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import sys, numpy as np
from pathlib import Path
from fourfold.runtimes import ov
from fourfold.runtimes.device import get_device
with ov.RUNTIME.open(Path({str(compiled)!r}), get_device("cpu-openvino")) as session:
    session.run({{"x": np.ones((1, 4), np.float32)}})
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules
"""
    # The variables that name a build server also silence the reports.
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "VIRTUAL_ENV", "LANG")} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert not list(home.rglob("*intel*"))


def test_no_more_plans_than_a_few_are_kept(compiled: Path) -> None:
    network = ov.Network(compiled, DEVICE)
    for batch in (1, 2, 3, 4, 5, 6, 1, 7):
        network.run({"x": np.ones((batch, 4), np.float32)})
    assert len(network._plans) == 5  # pyright: ignore[reportPrivateUsage]


def test_an_ir_that_is_not_ours_is_refused(compiled: Path) -> None:
    compiled.write_text(compiled.read_text().replace("fourfold", "elsewhere"))
    with pytest.raises(RunError, match=r"expected OpenVINO to open model\.xml, got: .+; compile it again"):
        ov.RUNTIME.open(compiled, DEVICE)


def test_lost_weights_are_refused(compiled: Path) -> None:
    compiled.with_suffix(".bin").unlink()
    with pytest.raises(RunError, match="compile it again"):
        ov.RUNTIME.open(compiled, DEVICE)


def test_an_absent_unit_is_named() -> None:
    device = Device("npu", "An NPU", "ov", "x86_64", unit="NPU")
    if (reason := ov.RUNTIME.missing(device)) is None:
        pytest.skip("this machine has an NPU")
    assert reason.startswith("OpenVINO finds no NPU here, only CPU")


def test_a_file_that_cannot_be_written_is_one_sentence(build: Build, tmp_path: Path) -> None:
    exported = build(NET, {"x": np.ones((1, 4), np.float32)}, w=np.eye(4, dtype=np.float32))
    with pytest.raises(BuildError, match=r"expected to write model\.xml, got: .+; check the space"):
        ov.RUNTIME.compile(exported, DEVICE, tmp_path / "absent" / "\0")
