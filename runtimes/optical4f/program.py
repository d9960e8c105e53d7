"""What compiling for light leaves: program and schedule as JSON, weights beside it, and the rest as ONNX.

``program.json`` holds everything a person or a bench may want to read: where every node runs and why, how
each layer lies on the plane, how it is set up, and what was measured while it was made.
``program.safetensors`` holds kernels, biases and levels; ``program.onnx`` the electronic nodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from ...errors import RunError
from ...export.artifact import Array
from ...models.spec import TensorSpec
from ..sessions import reason
from .codec import from_json, to_json
from .lower import Layer
from .partition import Placement
from .passes import Setting
from .presets import System
from .schedule import Plan

VERSION = 3
NAME = "program.json"


@dataclass(frozen=True)
class Step:
    """One optical node."""

    layer: Layer
    source: str
    """Name of the value that goes in."""
    target: str
    """Name of the value that comes out."""
    setting: Setting
    single: Plan
    """For one sample."""
    plan: Plan
    """For the program's batch."""
    proof: float
    """Relative error of ideal optics against the electronic node, on real samples."""


@dataclass(frozen=True)
class Measured:
    """What was measured on the machine that compiled, in the reference evaluator on one thread."""

    host: str
    graph_ms: float
    """The whole graph, one sample."""
    electronic_ms: float
    """The electronic nodes alone, one sample."""


@dataclass(frozen=True)
class Program:
    """A network for one optical processor."""

    version: int
    name: str
    system: System
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: int
    """Samples that the schedule is made for."""
    placements: tuple[Placement, ...]
    steps: tuple[Step, ...]
    electronic_macs: float
    """Operations of one sample that stay electronic."""
    proof: float
    """Relative error of the whole network with ideal optics against the graph, on real samples."""
    measured: Measured

    @property
    def ends(self) -> tuple[tuple[str, str], ...]:
        """Names of what goes into and comes out of each optical node."""
        return tuple((step.source, step.target) for step in self.steps)


class Loaded(NamedTuple):
    """A program with its arrays and its electronic graph."""

    program: Program
    arrays: dict[str, Array]
    rest: ir.Model


def save(folder: Path, program: Program, arrays: dict[str, Array], rest: ir.Model) -> Path:
    """Write a program into an existing folder and return its main file."""
    path = folder / NAME
    safetensors: Any = import_module("safetensors.numpy")
    solid = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.save_file(solid, path.with_suffix(".safetensors"))
    onnx.save(ir.to_proto(rest), path.with_suffix(".onnx"))
    path.write_text(json.dumps(to_json(program), indent=1, allow_nan=False), encoding="utf-8")
    return path


def load(path: Path) -> Loaded:
    """Read a program.

    Raises:
        RunError: If one of its files is missing or damaged.
    """
    program = read_program(path)
    safetensors: Any = import_module("safetensors")
    try:
        with safetensors.safe_open(path.with_suffix(".safetensors"), framework="numpy") as file:
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        rest = ir.from_proto(onnx.load(path.with_suffix(".onnx"), load_external_data=False))
    except Exception as error:  # protobuf, onnx and safetensors share no base class
        raise _damaged(path, error) from error
    return Loaded(program, arrays, rest)


def read_program(path: Path) -> Program:
    """Read the JSON of a program.

    Raises:
        RunError: If it is missing or damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            message = f"version {data['version']} instead of {VERSION}"
            raise ValueError(message)
        return from_json(Program, data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> RunError:
    return RunError(f"expected an optical program in {path.name}, got: {reason(error)}; compile it again")
