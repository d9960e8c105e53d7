"""What is opened to be checked: the compiled file on its device, or what stands in for it on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ..export.artifact import Precision
from ..export.rounded import rounded
from ..export.rules.shapes import infer_shapes
from ..runtimes.device import Device
from ..runtimes.reference import GraphSession
from ..runtimes.runtime import Runtime, Session, stand_in

Open = Callable[[], Session]
"""Opens an artifact anew."""


@dataclass(frozen=True)
class Subject:
    """An artifact as this machine can look at it."""

    open: Open
    name: str
    """What answers, in comparisons: ``"compiled"``, or the graph where the compiled file cannot be opened."""
    not_timed: str
    """Why its latency is not the device's; empty on the device itself."""
    warning: str
    """What a check of it does not prove; empty on the device itself."""
    ran: bool
    """False when the compiled file was never opened."""


def subject_of(
    runtime: Runtime, device: Device, compiled: Path, graph: Callable[[], ir.Model], *, precision: Precision
) -> Subject:
    """Find what this machine can check of a compiled file.

    Args:
        runtime: The engine that compiled it.
        device: The device it was compiled for.
        compiled: The file.
        graph: Gives the graph it was compiled from.
        precision: That was written into the graph; float16 is evaluated with every rounding.
    """
    why = stand_in(runtime, device) or ""
    if reason := runtime.cannot_run(device):
        warning = (
            f"Built here, never run: {reason}. What was checked is the graph it was built from; on a machine "
            "that runs it, `fourfold verify BUNDLE` checks it and `fourfold bench BUNDLE --save` times it."
        )
        return Subject(lambda: _graph_session(graph(), precision), "graph", why, warning, ran=False)
    warning = ""
    if reason := runtime.emulated(device):
        warning = f"Checked by a stand-in: {reason}"
    elif why:
        warning = f"Checked on this host in the device's stead: {why}"
    return Subject(lambda: runtime.open(compiled, device), "compiled", why, warning, ran=True)


def _graph_session(model: ir.Model, precision: Precision) -> Session:
    if precision == "fp16":
        model = model.clone()
        infer_shapes(model)  # a file does not say the types of all its values
        model = rounded(model)
    return GraphSession(model)
