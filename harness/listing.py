"""What is there: the zoo, the devices, this host and its engines, as plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..models.registry import get_spec, model_names
from ..models.spec import ModelSpec
from ..runtimes.device import Device, load_devices
from ..runtimes.engines import known_runtimes, runtime_for
from ..runtimes.runtime import Capabilities
from .host import host, tools
from .result import Host

Row = Mapping[str, str]

LIBRARIES = (
    "torch",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "timm",
    "numpy",
    "safetensors",
)


@dataclass(frozen=True)
class Diagnosis:
    """What ``doctor`` found."""

    host: Host
    libraries: Mapping[str, str]
    engines: Mapping[str, Capabilities | str]
    """What each engine can do, or why it cannot be used."""
    devices: tuple[Row, ...]


def models() -> tuple[Row, ...]:
    """List the zoo."""
    return tuple(_model(get_spec(name)) for name in model_names())


def _model(spec: ModelSpec) -> Row:
    return {
        "model": spec.name,
        "parameters": f"{spec.params:,}" if spec.params else "",
        "input": " ".join("x".join(map(str, i.shape[1:])) for i in spec.inputs),
        "weights": "trained, shipped" if spec.weights else "random",
        "checked": spec.checked,
        "paper": spec.paper,
    }


def devices(extra: Path | None = None) -> tuple[Row, ...]:
    """List the devices, each with what is missing here to build for it or to run on it."""
    return tuple(_device(device) for device in load_devices(extra).values())


def _device(device: Device) -> Row:
    return {
        "device": device.name,
        "title": device.title,
        "runtime": device.runtime,
        "unit": device.unit,
        "here": availability(device),
    }


def availability(device: Device) -> str:
    """Say in a few words what can be done for a device on this host."""
    runtime = runtime_for(device)
    if missing := runtime.missing(device):
        return missing
    if reason := runtime.cannot_run(device):
        return f"builds, does not run: {reason}"
    reason = runtime.emulated(device) or device.elsewhere()
    return f"builds and checks, no timing: {reason}" if reason else "ready"


def doctor(extra: Path | None = None) -> Diagnosis:
    """Collect everything that decides what works on this host."""
    return Diagnosis(
        host(),
        tools(LIBRARIES),
        {
            name: found if isinstance(found, str) else found.capabilities
            for name, found in known_runtimes().items()
        },
        devices(extra),
    )
