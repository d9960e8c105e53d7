"""OpenVINO itself: imported in silence, and told to compute what the graph says."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any

from .device import Device

_TELEMETRY = "openvino_telemetry"
_WITHOUT_FUSING = ["fourfold", "without_fusing"]


@cache
def openvino() -> Any:
    """Import OpenVINO; the package has no types of its own.

    Importing it reports to its maker over the network and writes to the home folder, unless the package
    that does so cannot be found; then OpenVINO falls back to a stub of its own.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]


@cache
def core() -> Any:
    """Make the one ``openvino.Core`` of this process: it loads a plugin once per unit."""
    return openvino().Core()


def compile_model(model: Any, device: Device) -> Any:
    """Make an ``openvino.CompiledModel`` for the unit of a device.

    Args:
        model: An ``openvino.Model``; marked by ``without_fusing`` it is planned without fused chains.
        device: Its unit and threads are used.
    """
    wanted = {
        # Left alone, OpenVINO computes in bfloat16 or float16 wherever the processor can.
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": device.threads,
        # The cores are the caller's choice, recorded with each timing.
        "ENABLE_CPU_PINNING": False,
    }
    takes = core().get_property(device.unit, "SUPPORTED_PROPERTIES")
    config = {key: value for key, value in wanted.items() if key in takes}
    if model.has_rt_info(_WITHOUT_FUSING):
        config["SNIPPETS_MODE"] = "DISABLE"
    return core().compile_model(model, device.unit, config)


def without_fusing(model: Any) -> None:
    """Mark a model, also in the file it is saved to, to be planned without chains fused into one kernel."""
    model.set_rt_info("yes", _WITHOUT_FUSING)
