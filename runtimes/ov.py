"""OpenVINO on Intel and ARM processors, Intel GPUs and NPUs.

The compiled file is OpenVINO's IR in full precision: precision is what the graph says, never what the
processor would like. The graphs that OpenVINO answers wrongly without a word are refused (``ov_traps``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..calibration.scheme import OPENVINO
from ..errors import BuildError, RunError
from ..export.artifact import Array, Exported, Feed
from .device import Device
from .open_session import OpenSession
from .ov_core import compile_model, core, openvino
from .ov_crash import plan_safely
from .ov_traps import dft_traps, scan_traps
from .runtime import Capabilities, Executed, Runtime, Session
from .sessions import (
    MOVED,
    OTHER,
    reason,
    shares,
    specs_from_json,
    specs_to_json,
)

_INPUTS, _OUTPUTS = ["fourfold", "inputs"], ["fourfold", "outputs"]
"""Where the IR keeps our specs: OpenVINO drops unused inputs and the names of free dimensions."""

_Shapes = tuple[tuple[int, ...], ...]
_ANY: _Shapes = ()
"""Key of the plan that takes any shapes."""
_MOST_PLANS = 4
"""Plans that one session keeps for known shapes; each holds a copy of the weights."""

_FLOATS = {"f32": "fp32", "f64": "fp64", "f16": "fp16", "bf16": "bf16"}
_BYTES = frozenset({"i8", "u8", "boolean"})
_INTEGER_KERNELS = frozenset({"Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul"})
"""Kinds of nodes that compute in integers when their data has 8 bits."""
_CONVERSIONS = frozenset({"Convert", "FakeQuantize"})
_NO_WORK = frozenset({"Input", "Output", "Const", "Parameter", "Result", "Constant"})


class OvRuntime:
    """Compiles for, and runs on, one unit that OpenVINO knows."""

    name = "ov"
    library = "openvino"
    passes: tuple[str, ...] = (
        "norms_on_tokens",
        "batch_to_columns",
        "merge_transposes",
        "tidy",
        "state_first",
        "scan_products",
        "unroll_scan",
    )
    capabilities = Capabilities(
        opset=20,
        opsets=(7, 26),
        precisions=("fp32", "int8"),
        qdq=OPENVINO,
        control_flow={"If": "yes", "Loop": "yes", "Scan": "partly"},
        attention="yes",
        fft="partly",
        dynamic_shapes="yes",
        notes={
            "Scan": "with static shapes, PRelu and Mod must take the state as their first input",
            "fft": "a DFT of opset 20 and later must be over axis 1, and onesided is not supported",
        },
    )

    def missing(self, device: Device) -> str | None:
        """See ``Runtime.missing``."""
        try:
            units: list[str] = core().available_devices
        except ImportError as error:
            return f"OpenVINO does not import here ({reason(error)}); pip install openvino"
        if any(unit == device.unit or unit.startswith(f"{device.unit}.") for unit in units):
            return None
        return (
            f"OpenVINO finds no {device.unit} here, only {', '.join(units)}; check the {device.unit} driver"
        )

    def cannot_run(self, device: Device) -> str | None:
        """See ``Runtime.cannot_run``: what can be built here runs here."""
        return None

    def emulated(self, device: Device) -> str | None:
        """See ``Runtime.emulated``: the engine is the device's own."""
        return None

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """See ``Runtime.compile``: prove that the unit takes the graph, and write the IR."""
        try:
            model = core().read_model(ir.to_proto(exported.model).SerializeToString())
            traps = [*dft_traps(exported.model), *scan_traps(model)]
            if not traps:
                plan_safely(model, device)
                compile_model(model, device)
        except Exception as error:  # the engine raises bare RuntimeErrors of many kinds
            message = f"expected OpenVINO to accept {exported.name}, got: {reason(error)}; change the model"
            raise BuildError(message) from error
        if traps:
            message = f"expected a graph that OpenVINO answers right, got {'; '.join(traps)}"
            raise BuildError(message)
        path = out / "model.xml"
        model.set_rt_info(specs_to_json(exported.inputs), _INPUTS)
        model.set_rt_info(specs_to_json(exported.outputs), _OUTPUTS)
        try:
            openvino().save_model(model, path, compress_to_fp16=False)
        except Exception as error:
            message = f"expected to write {path.name}, got: {reason(error)}; check the space that is free"
            raise BuildError(message) from error
        return path

    def open(self, compiled: Path, device: Device) -> Session:
        """See ``Runtime.open``."""
        network = Network(compiled, device)
        return OpenSession(network, network.inputs)


@dataclass(frozen=True)
class _Plan:
    """The network, compiled for inputs of certain shapes, or of any."""

    compiled: Any
    request: Any
    ports: dict[str, Any]
    """Output ports by name."""


class Network:
    """One network in OpenVINO, with a plan of its own for each of the first few shapes it meets.

    Where the batch is free, OpenVINO settles shapes and memory in every inference anew, which can take as
    long as the network itself.
    """

    def __init__(self, compiled: Path, device: Device) -> None:
        self._name = compiled.name
        self._device = device
        try:
            self._model: Any = core().read_model(compiled)
            self.inputs = specs_from_json(self._model.get_rt_info(_INPUTS).value)
            self._outputs = specs_from_json(self._model.get_rt_info(_OUTPUTS).value)
        except Exception as error:
            message = f"expected OpenVINO to open {self._name}, got: {reason(error)}; compile it again"
            raise RunError(message) from error
        self._used = [port.get_any_name() for port in self._model.inputs]
        self._plans: dict[_Shapes, _Plan] = {}
        self._last: _Plan | None = None

    def run(self, checked: dict[str, Array]) -> Feed:
        """Run one inference; the first one of a new shape takes longer."""
        used = {name: checked[name] for name in self._used}
        try:
            plan = self._plan(tuple(array.shape for array in used.values()))
            answers = plan.request.infer(used)
        except Exception as error:
            message = f"expected OpenVINO to run {self._name}, got: {reason(error)}; verify the bundle"
            raise RunError(message) from error
        self._last = plan
        return {name: np.asarray(answers[port]) for name, port in plan.ports.items()}

    def executed(self) -> tuple[Executed, ...]:
        """Read the plan that was followed last; a loop counts as one node."""
        assert self._last is not None, "a session asks after an inference"
        compiled = self._last.compiled
        provider = "+".join(compiled.get_property("EXECUTION_DEVICES"))
        return shares((provider, _precision(op)) for op in compiled.get_runtime_model().get_ops())

    def _plan(self, shapes: _Shapes) -> _Plan:
        """Find the plan for inputs of these shapes, or make it."""
        if shapes in self._plans:
            return self._plans[shapes]
        model = self._fixed(shapes) if len(self._plans) < _MOST_PLANS else None
        key = _ANY if model is None else shapes
        if key not in self._plans:
            compiled = compile_model(model or self._model, self._device)
            ports = {spec.name: compiled.output(spec.name) for spec in self._outputs}
            self._plans[key] = _Plan(compiled, compiled.create_infer_request(), ports)
        return self._plans[key]

    def _fixed(self, shapes: _Shapes) -> Any:
        """Give the model with all its shapes known; None where it has them, or where knowing them hurts."""
        if not self._model.is_dynamic():
            return None
        model = self._model.clone()
        model.reshape(dict(zip(self._used, shapes, strict=True)))
        return None if any(scan_traps(model)) else model


def _precision(op: Any) -> str:
    """Name the precision that one node of an executed plan computed in; conversions are float arithmetic."""
    facts: dict[str, Any] = op.get_rt_info()
    kind, read, written = (
        str(facts[key].value) for key in ("layerType", "runtimePrecision", "outputPrecisions")
    )
    if kind in _NO_WORK:
        return OTHER
    if kind in _CONVERSIONS:
        return _FLOATS.get(read, "fp32")
    if read not in _BYTES:
        return _FLOATS.get(read, OTHER)
    if kind in _INTEGER_KERNELS:
        return "int8"
    # A fused chain that reads bytes and writes floats computed in floats.
    return _FLOATS.get(written.split(",")[0], MOVED)


RUNTIME: Runtime = OvRuntime()
