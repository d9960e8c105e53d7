"""An engine that computes nothing: the smallest example of the contract, and the cost of a harness alone.

It answers the golden input with the golden output, and anything else with zeros of the right shape.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from ..export.artifact import Array, Exported, Feed
from ..models.spec import TensorSpec
from .device import Device
from .open_session import OpenSession
from .runtime import Capabilities, Executed, Runtime, Session
from .sessions import reason, specs_from_json, specs_to_json

_NOTE = "computes nothing, so nothing is refused"


class NullRuntime:
    """Compiles a golden answer, and repeats it."""

    name = "null"
    library = ""
    passes: tuple[str, ...] = ()
    capabilities = Capabilities(
        opset=20,
        opsets=(1, 28),
        precisions=("fp32",),
        qdq=None,
        control_flow={"If": "partly", "Loop": "partly", "Scan": "partly"},
        attention="partly",
        fft="partly",
        dynamic_shapes="yes",
        notes=dict.fromkeys(("If", "Loop", "Scan", "attention", "fft"), _NOTE),
    )

    def missing(self, device: Device) -> str | None:
        """See ``Runtime.missing``: never anything."""
        return None

    def cannot_run(self, device: Device) -> str | None:
        """See ``Runtime.cannot_run``: it runs everywhere."""
        return None

    def emulated(self, device: Device) -> str | None:
        """See ``Runtime.emulated``: it is its own device."""
        return None

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """See ``Runtime.compile``."""
        path = out / "golden.safetensors"
        golden = exported.golden
        arrays = {f"input:{name}": array for name, array in golden.inputs.items()}
        arrays |= {f"output:{name}": array for name, array in golden.outputs.items()}
        specs = {"inputs": specs_to_json(exported.inputs), "outputs": specs_to_json(exported.outputs)}
        safetensors: Any = import_module("safetensors.numpy")
        safetensors.save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, specs
        )
        return path

    def open(self, compiled: Path, device: Device) -> Session:
        """See ``Runtime.open``."""
        golden = _Golden(compiled)
        return OpenSession(golden, golden.inputs)


class _Golden:
    """One golden answer."""

    def __init__(self, compiled: Path) -> None:
        safetensors: Any = import_module("safetensors")
        try:
            with safetensors.safe_open(compiled, framework="numpy") as file:
                specs: dict[str, str] = file.metadata() or {}
                arrays: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            message = f"expected a golden answer in {compiled.name}, got: {reason(error)}; compile it again"
            raise RunError(message) from error
        self.inputs = specs_from_json(specs.get("inputs", ""))
        self._outputs = specs_from_json(specs.get("outputs", ""))
        self._arrays = arrays

    def run(self, checked: dict[str, Array]) -> Feed:
        """See ``Engine.run``."""
        if all(np.array_equal(array, self._arrays[f"input:{name}"]) for name, array in checked.items()):
            return {spec.name: self._arrays[f"output:{spec.name}"].copy() for spec in self._outputs}
        return {spec.name: _zeros(spec, checked, self.inputs) for spec in self._outputs}

    def executed(self) -> tuple[Executed, ...]:
        """See ``Engine.executed``."""
        return (Executed("null", "none", 0, 1.0),)


def _zeros(output: TensorSpec, feed: Feed, inputs: tuple[TensorSpec, ...]) -> Array:
    """Give zeros whose free dimensions have the sizes of the inputs' (1 when no input has the name)."""
    sizes = {
        dim: size
        for spec in inputs
        for dim, size in zip(spec.shape, feed[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }
    free = {dim: sizes.get(dim, 1) for dim in output.shape if isinstance(dim, str)}
    return np.zeros(output.concrete(**free), output.dtype)


RUNTIME: Runtime = NullRuntime()
