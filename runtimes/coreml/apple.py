"""A package in Core ML itself, on a Mac: Apple's kernels, and which unit takes which operator.

The compute plan names the preferred unit of every operator and its estimated share of the cost before
anything runs.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RunError
from ...export.artifact import Array, Feed
from ..device import Device
from ..open_session import OpenSession
from ..runtime import Executed, Session
from ..sessions import OTHER, reason, shares
from .face import Face, read_face
from .sdk import coremltools

UNITS = {"CPU": "CPU_ONLY", "GPU": "CPU_AND_GPU", "ANE": "CPU_AND_NE"}
"""Units of device rows as coremltools says them; Core ML never leaves the CPU out."""

_LEAST_MACOS = 14
"""First macOS with compute plans and quantized programs."""
_PARTS = {"MLNeuralEngineComputeDevice": "ANE", "MLGPUComputeDevice": "GPU", "MLCPUComputeDevice": "CPU"}


def here() -> str | None:
    """Say why this machine does not run Core ML, or None on a Mac that does."""
    if platform.system() != "Darwin":
        return f"Core ML runs on Apple's systems only, and this is {platform.system() or 'another'}"
    version = platform.mac_ver()[0]
    if int(version.split(".")[0] or 0) < _LEAST_MACOS:
        return f"these packages need macOS {_LEAST_MACOS}, and this is macOS {version}"
    return None


def units_of(device: Device) -> Any:
    """Give the unit of a device as coremltools says it."""
    return getattr(coremltools().ComputeUnit, UNITS[device.unit])


def open_model(package: Path, device: Device) -> Any:
    """Open a package in Core ML.

    Raises:
        RunError: If Core ML refuses it.
    """
    try:
        return coremltools().models.MLModel(str(package), compute_units=units_of(device))
    except Exception as error:  # Core ML's own errors arrive as bare RuntimeErrors
        message = f"expected Core ML to open {package.name}, got: {reason(error)}; compile it again"
        raise RunError(message) from error


def apple(compiled: Path, device: Device) -> Session:
    """Open a package of ours in Core ML.

    Raises:
        RunError: If Core ML refuses it, or it was not made here.
    """
    package = _Package(compiled, device)
    return OpenSession(package, package.face.inputs)


class _Package:
    """One package in Core ML."""

    def __init__(self, compiled: Path, device: Device) -> None:
        self._name = compiled.name
        self.face: Face = read_face(compiled)
        self._units = units_of(device)
        self._model: Any = open_model(compiled, device)

    def run(self, checked: dict[str, Array]) -> Feed:
        """See ``Engine.run``; a prediction returns when the unit has finished."""
        given = {name: np.ascontiguousarray(a) for name, a in self.face.to_package(checked).items()}
        try:
            answers = self._model.predict(given)
        except Exception as error:
            message = f"expected Core ML to run {self._name}, got: {reason(error)}; verify the bundle"
            raise RunError(message) from error
        return self.face.from_package(answers)

    def executed(self) -> tuple[Executed, ...]:
        """See ``Engine.executed``: the plan's preferred unit of every operator, with the precision written.

        Core ML may compute an operator that is written in float32 on a unit that has float16 only; it says so
        nowhere, so that the golden check decides.
        """
        return shares(_placed(self._planned(), self.face))

    def _planned(self) -> Counter[tuple[str, str]]:
        """Count operators by kind and preferred unit."""
        plans: Any = import_module("coremltools.models.compute_plan").MLComputePlan
        plan = plans.load_from_path(self._model.get_compiled_model_path(), compute_units=self._units)
        counts: Counter[tuple[str, str]] = Counter()
        for operation in _operations(plan.model_structure.program.functions["main"].block):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                unit = type(usage.preferred_compute_device).__name__
                counts[operation.operator_name.split(".")[-1], _PARTS.get(unit, unit)] += 1
        return counts


def _operations(block: Any) -> Iterable[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _placed(planned: Counter[tuple[str, str]], face: Face) -> Iterable[tuple[str, str]]:
    """Join units and precisions: operators of one kind are taken in the order of their counts."""
    left = {(kind, precision): count for kind, precision, count in face.operators}
    for (kind, unit), count in planned.items():
        for (known, precision), rest in left.items():
            taken = min(count, rest) if known == kind else 0
            left[known, precision] -= taken
            count -= taken
            for _ in range(taken):
                yield f"Core ML {unit}", OTHER if precision == "other" else precision
