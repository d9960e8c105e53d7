"""Which TensorRT serves a device follows from its row and from what is installed."""

from types import SimpleNamespace
from typing import Any

import pytest

from fourfold.errors import UnavailableError
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.trt import flavour
from fourfold.runtimes.trt.cuda import Gpu
from fourfold.runtimes.trt.flavour import CLASSIC, RTX, Choice, choose

HERE = Gpu(0, "Orin", "SM87")
RTX_KNOWS = SimpleNamespace(ComputeCapability=SimpleNamespace(__members__={"NONE": 0, "SM75": 1, "SM89": 2}))


def device(compute: str, unit: str = "GPU") -> Device:
    return Device("d", "D", "trt", "any", unit=unit, compute=compute)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Packages by module name, and what GPU is here under ``"gpu"``."""
    packages: dict[str, Any] = {"gpu": "no GPU of SM87 is here"}

    def import_module(name: str) -> Any:
        if isinstance(found := packages.get(name, ImportError(f"No module named {name!r}")), Exception):
            raise found
        return found

    monkeypatch.setattr(flavour, "import_module", import_module)
    monkeypatch.setattr(flavour, "find_gpu", lambda compute: packages["gpu"])
    return packages


def test_ahead_of_time_is_taken_where_it_knows_the_gpu(installed: dict[str, Any]) -> None:
    installed |= {"tensorrt_rtx": RTX_KNOWS, "tensorrt": SimpleNamespace(__version__="11.4"), "gpu": HERE}
    assert choose(device("SM89")) == Choice(RTX, "SM89", "TensorRT-RTX builds for SM89 without the GPU")


def test_classic_is_taken_on_the_device_for_the_others(installed: dict[str, Any]) -> None:
    installed |= {"tensorrt_rtx": RTX_KNOWS, "tensorrt": SimpleNamespace(__version__="10.3.0"), "gpu": HERE}
    found = choose(device("SM87"))
    assert isinstance(found, Choice)
    assert found.flavour is CLASSIC
    assert found.reason == "TensorRT-RTX builds for SM75, SM89 only; TensorRT builds on the Orin that is here"


def test_classic_is_taken_where_the_other_is_not_installed(installed: dict[str, Any]) -> None:
    installed |= {"tensorrt": SimpleNamespace(__version__="10.3.0"), "gpu": HERE}
    found = choose(device("SM87"))
    assert isinstance(found, Choice)
    assert found.flavour is CLASSIC
    assert "pip install tensorrt-rtx" in found.reason


@pytest.mark.parametrize(
    ("row", "packages", "reason"),
    [
        (device("SM89", unit="CPU"), {}, "expected the unit GPU for TensorRT, got CPU"),
        (
            device(""),
            {},
            "expected a compute capability such as SM89 in its row, got none; set the key 'compute'",
        ),
        (device("8.9"), {}, "such as SM89 in its row, got '8.9'"),
        (device("SM89"), {}, "pip install tensorrt-rtx), and TensorRT does not import here (No module named"),
        (device("SM89"), {"tensorrt_rtx": OSError("libcudart.so: not found")}, "libcudart.so: not found"),
        (
            device("SM87"),
            {"tensorrt_rtx": RTX_KNOWS},
            "builds on a machine with that GPU: run the same command",
        ),
        (
            device("SM87"),
            {"tensorrt": SimpleNamespace(__version__="8.6.1")},
            "8.6.1 is older than 10; update",
        ),
        (
            device("SM87"),
            {"tensorrt": SimpleNamespace(__version__="11.4")},
            "no GPU of SM87 is here; TensorRT",
        ),
    ],
)
def test_nothing_fits_with_a_reason(
    row: Device, packages: dict[str, Any], reason: str, installed: dict[str, Any]
) -> None:
    installed |= packages
    found = choose(row)
    assert isinstance(found, str)
    assert reason in found
    assert get_runtime("trt").missing(row) == found


@pytest.mark.parametrize("name", ["jetson-orin", "h100"])
def test_devices_that_build_for_themselves_say_so(name: str, installed: dict[str, Any]) -> None:
    installed["tensorrt_rtx"] = RTX_KNOWS
    reason = get_runtime("trt").missing(get_device(name))
    assert reason is not None
    assert "builds on a machine with that GPU: run the same command there" in reason


def test_compiling_without_any_is_unavailable(installed: dict[str, Any], build: Any, tmp_path: Any) -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> net (float[2] x) => (float[2] y) { y = Relu(x) }'
    exported = build(text, {}, golden=False)
    with pytest.raises(UnavailableError, match="d: TensorRT-RTX does not import here"):
        get_runtime("trt").compile(exported, device("SM89"), tmp_path)
