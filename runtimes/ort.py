"""ONNX Runtime on the CPU.

The compiled file is the ONNX graph itself: an optimized graph that ONNX Runtime saves is tied to the
processor it was saved on, and a session optimizes the portable one again while it loads.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration.scheme import ARM, ORT_X86
from ..errors import BuildError, RunError
from ..export.artifact import Array, Exported, Feed
from ..models.spec import TensorSpec
from .device import Device
from .open_session import OpenSession
from .runtime import Capabilities, Executed, Runtime, Session
from .serialize import serialize
from .sessions import MOVED, OTHER, reason, shares

PROVIDER = "CPUExecutionProvider"
CPUINFO = Path("/proc/cpuinfo")

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
"""ONNX Runtime's words for the types that it does not call as numpy does."""

_CONVERSIONS = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_INTEGER_KERNELS = frozenset(
    {"QGemm", "QAttention", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
"""Integer kernels besides those that ONNX Runtime names ``QLinear...``."""
_SHAPES = frozenset({"Shape", "Size"})
_FLOATS = {"float": "fp32", "double": "fp64", "float16": "fp16", "bfloat16": "bf16"}
_BYTES = frozenset({"uint8", "int8", "bool"})


class OrtRuntime:
    """Compiles for, and runs on, the CPU with ONNX Runtime."""

    name = "ort"
    library = "onnxruntime"
    # A mean stays in float between integer kernels, a pool does not; OpenVINO takes both alike.
    passes: tuple[str, ...] = ("mean_to_pool", "scan_products")
    capabilities = Capabilities(
        opset=20,
        opsets=(7, 26),
        precisions=("fp32", "int8"),
        qdq=ORT_X86,
        qdq_by_arch={"aarch64": ARM},
        control_flow={"If": "yes", "Loop": "yes", "Scan": "yes"},
        attention="yes",
        fft="yes",
        dynamic_shapes="yes",
    )

    def missing(self, device: Device) -> str | None:
        """See ``Runtime.missing``; one package serves every processor."""
        if device.unit != "CPU":
            return f"expected the unit CPU for ONNX Runtime, got {device.unit}; choose another device"
        try:
            import_module("onnxruntime")
        except ImportError as error:
            return f"ONNX Runtime does not import here ({reason(error)}); pip install onnxruntime"
        return None

    def cannot_run(self, device: Device) -> str | None:
        """See ``Runtime.cannot_run``: what can be built here runs here."""
        return None

    def emulated(self, device: Device) -> str | None:
        """See ``Runtime.emulated``: the engine is the device's own."""
        return None

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """See ``Runtime.compile``: prove that a session takes the graph, and write it."""
        data = serialize(exported)
        try:
            _session(data, device)
        except Exception as error:  # the engine's own exceptions share no base class
            message = (
                f"expected ONNX Runtime to accept {exported.name}, got: {reason(error)}; change the model"
            )
            raise BuildError(message) from error
        path = out / "model.onnx"
        path.write_bytes(data)
        return path

    def open(self, compiled: Path, device: Device) -> Session:
        """See ``Runtime.open``."""
        network = _Network(compiled, device)
        return OpenSession(network, network.inputs)


class _Network:
    """One network in ONNX Runtime."""

    def __init__(self, compiled: Path, device: Device) -> None:
        self._compiled = compiled
        self._device = device
        try:
            self._session: Any = _session(compiled, device)
        except Exception as error:
            message = f"expected ONNX Runtime to open {compiled.name}, got: {reason(error)}; compile it again"
            raise RunError(message) from error
        self.inputs = tuple(_spec(argument) for argument in self._session.get_inputs())
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._last: Feed = {}

    def run(self, checked: dict[str, Array]) -> Feed:
        """See ``Engine.run``."""
        try:
            answers = self._session.run(self._outputs, checked)
        except Exception as error:
            message = (
                f"expected ONNX Runtime to run {self._compiled.name}, got: {reason(error)}; verify the bundle"
            )
            raise RunError(message) from error
        self._last = checked
        return {name: np.asarray(answer) for name, answer in zip(self._outputs, answers, strict=True)}

    def executed(self) -> tuple[Executed, ...]:
        """See ``Engine.executed``: repeats the last inference in a session of its own, with profiling.

        A node of a loop's body counts once, however often it ran.
        """
        with tempfile.TemporaryDirectory(prefix="fourfold-") as folder:
            session = _session(self._compiled, self._device, profile=str(Path(folder) / "profile"))
            session.run(None, dict(self._last))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return shares(_nodes(event for event in events if event.get("cat") == "Node"))


def _session(graph: Path | bytes, device: Device, *, profile: str | None = None) -> Any:
    """Make an ``onnxruntime.InferenceSession``; the package has no types of its own."""
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    if not _multiplies_exactly(CPUINFO):
        # uint8 x int8 products overflow in 16 bits there; exact kernels are much slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return ort.InferenceSession(graph, options, providers=[PROVIDER])


@cache
def _multiplies_exactly(cpuinfo: Path) -> bool:
    """Say whether the processor is known to add uint8 x int8 products in 32 bits (VNNI)."""
    try:
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False  # not Linux: ONNX Runtime does not tell, and a wrong answer is worse than a slow one
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(words)


def _spec(argument: Any) -> TensorSpec:
    """Turn an input of a session into our words; an unnamed free dimension gets a name of its own."""
    kind: str = argument.type
    shape: list[int | str | None] = argument.shape
    dims = tuple(f"{argument.name}.{axis}" if dim is None else dim for axis, dim in enumerate(shape))
    dtype = _DTYPES.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
    try:
        np.dtype(dtype)
    except TypeError as error:
        message = f"expected inputs of numbers, got {argument.name} of {kind}; export the model differently"
        raise RunError(message) from error
    return TensorSpec(argument.name, dims, dtype)


def _nodes(events: Iterable[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    """Give provider and precision of every node once."""
    facts = {event["name"]: event["args"] for event in events}
    return [(fact["provider"], _precision(fact)) for fact in facts.values()]


def _precision(facts: dict[str, Any]) -> str:
    """Name the precision a node computed in: that of its first number. Conversions are float arithmetic."""
    kind: str = facts["op_name"]
    kinds = [name for shape in (*facts["input_type_shape"], *facts["output_type_shape"]) for name in shape]
    if kind in _SHAPES:
        return OTHER
    if kind.startswith("QLinear") or kind in _INTEGER_KERNELS:
        return "int8"
    if kind in _CONVERSIONS:
        kinds = [name for name in kinds if name in _FLOATS]
    first = next((name for name in kinds if name in _FLOATS or name in _BYTES), "")
    return MOVED if first in _BYTES else _FLOATS.get(first, OTHER)


RUNTIME: Runtime = OrtRuntime()
