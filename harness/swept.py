"""What the sweep over the zoo found, kept beside the code: ``swept.json``, one record per exported model.

The sweep (``make test-zoo``) exports a model at its full size with random weights in which nothing is zero or
one, and compares ONNX Runtime and OpenVINO with torch. `record` makes what it keeps, and the table reads it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx_ir as ir

from ..errors import UsageError
from ..export.artifact import Exported
from ..export.parity import Parity
from .document import decode, encode
from .host import tools

RECORDS = Path(__file__).with_name("swept.json")
CONTROL = ("If", "Loop", "Scan")
SELECTION = ("ArgMax", "NonZero", "TopK")
INDEXED = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
PACKAGES = {"ort": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class EngineFound:
    """How far one engine was from torch."""

    package: str
    """Name and version."""
    relative: float
    """Largest error over all outputs and batches, to two digits."""


@dataclass(frozen=True)
class Swept:
    """What the sweep found on one model."""

    parameters: int
    macs: int
    """Both as counted when it was swept: a record of another network is void."""
    opset: int
    nodes: int
    batches: tuple[int, ...]
    dynamic: Mapping[str, int]
    """Operators whose work or whose addresses depend on values, and how many of them there are."""
    engines: Mapping[str, EngineFound]
    """By row of devices.yaml."""


def record(
    exported: Exported, found: Mapping[str, tuple[Parity, ...]], *, parameters: int, macs: int
) -> Swept:
    """Make the record of one model.

    Args:
        exported: The graph that every engine began with.
        found: Comparisons with torch by row of devices.yaml, all passed.
        parameters: Of the model.
        macs: Of the model.
    """
    nodes = exported.model.graph.num_nodes()
    batches = sorted({p.batch for parities in found.values() for p in parities})
    engines = {row: _engine(row, parities) for row, parities in found.items()}
    opset = exported.model.opset_imports[""]
    return Swept(parameters, macs, opset, nodes, tuple(batches), dynamic_parts(exported.model), engines)


def _engine(row: str, parities: tuple[Parity, ...]) -> EngineFound:
    package = PACKAGES[row.removeprefix("cpu-")]
    worst = max(p.relative for p in parities)
    return EngineFound(f"{package} {tools((package,))[package]}", float(f"{worst:.1e}"))


def dynamic_parts(model: ir.Model) -> dict[str, int]:
    """Count operators whose work or whose addresses depend on values; a look-up by constants does not."""
    return dict(sorted(Counter(n.op_type for n in model.graph.all_nodes() if _depends(n)).items()))


def _depends(node: ir.Node) -> bool:
    if node.op_type in CONTROL or node.op_type in SELECTION:
        return True
    return node.op_type in INDEXED and node.inputs[1] is not None and node.inputs[1].const_value is None


def swept(path: Path = RECORDS) -> dict[str, Swept]:
    """Read the records by name of the model.

    Raises:
        UsageError: If the file is none of ours.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return dict(cast("Mapping[str, Swept]", decode(Mapping[str, Swept], data, path.name)))
    except (OSError, ValueError, TypeError) as error:
        message = f"expected the records of the sweep in {path}, got: {error}; run make test-zoo again"
        raise UsageError(message) from error


def keep(found: Mapping[str, Swept], path: Path = RECORDS) -> None:
    """Write these records over those of the same models; the others stay."""
    known = swept(path) if path.exists() else {}
    merged = {name: encode(value) for name, value in sorted({**known, **found}.items())}
    path.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
