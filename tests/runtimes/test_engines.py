"""Engines are found by name: ours, or brought by another package."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from fourfold.errors import UsageError
from fourfold.runtimes import engines
from fourfold.runtimes.device import Device, load_devices
from fourfold.runtimes.engines import (
    BUILT,
    get_runtime,
    known_runtimes,
    library_version,
    runtime_for,
)
from fourfold.runtimes.null import NullRuntime
from fourfold.runtimes.runtime import Runtime


class Foreign(NullRuntime):
    name = "foreign"


FOREIGN = Foreign()
NOT_AN_ENGINE = "text"


def bring(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    found = [EntryPoint(name, f"{__name__}:{value}", engines.GROUP) for name, value in entries.items()]
    monkeypatch.setattr(engines, "entry_points", lambda group: found)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Foreign.__module__])


@pytest.mark.parametrize("name", BUILT)
def test_a_built_engine_is_a_runtime_of_its_name(name: str) -> None:
    runtime = get_runtime(name)
    assert isinstance(runtime, Runtime)
    assert runtime.name == name
    assert get_runtime(name) is runtime


@pytest.mark.parametrize("device", load_devices().values(), ids=lambda device: device.name)
def test_every_shipped_row_has_an_engine(device: Device) -> None:
    assert runtime_for(device).name == device.runtime


def test_an_unknown_engine_gets_near_names() -> None:
    with pytest.raises(UsageError, match="expected a known runtime, got 'onnx'"):
        get_runtime("onnx")


def test_doctor_gets_every_engine_or_its_reason() -> None:
    known = known_runtimes()
    assert [name for name, engine in known.items() if isinstance(engine, Runtime)] == list(BUILT)
    assert not [engine for engine in known.values() if isinstance(engine, str)]


def test_a_package_that_is_not_installed_has_no_version() -> None:
    foreign = Foreign()
    foreign.library = "no-such-package"
    assert library_version(foreign) is None


def test_another_package_brings_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, foreign="FOREIGN")
    assert runtime_for(Device("d", "D", "foreign", "any")) is FOREIGN
    assert known_runtimes()["foreign"] is FOREIGN


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"foreign": "NOT_AN_ENGINE"}, "to be a Runtime named 'foreign', got str"),
        ({"other": "FOREIGN"}, "to be a Runtime named 'other', got Foreign"),
        ({"foreign": "ABSENT"}, "to load, got AttributeError"),
    ],
)
def test_a_broken_engine_is_refused_and_leaves_the_others_alone(
    entry: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, **entry)
    (name,) = entry
    with pytest.raises(UsageError, match=sentence):
        get_runtime(name)
    known = known_runtimes()
    assert isinstance(known[name], str)
    assert isinstance(known["ort"], Runtime)


def test_a_name_of_ours_is_not_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, ort="FOREIGN")
    with pytest.raises(UsageError, match=r"each engine name once, got 'ort' from fourfold\.runtimes\.ort"):
        load_devices()


def test_an_engine_of_another_package_serves_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    later = Foreign()
    later.name = "later"
    monkeypatch.setattr(sys.modules[Foreign.__module__], "FOREIGN", later)
    bring(monkeypatch, later="FOREIGN")
    assert runtime_for(Device("d", "D", "later", "any")) is later
    assert known_runtimes()["later"] is later


def test_listing_engines_imports_no_vendor_library() -> None:
    code = (
        "import sys; from fourfold.runtimes.engines import known_runtimes; known_runtimes();"
        "print(sorted({'onnxruntime', 'openvino', 'tensorrt_rtx', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
