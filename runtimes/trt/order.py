"""What the building process is asked, and what it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BuildError
from . import child
from .flavour import Choice

Profile = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""By input: its shape at the smallest, the usual and the largest batch."""


@dataclass(frozen=True)
class Finding:
    """One node that TensorRT's parser refuses."""

    index: int
    """Of the node in the graph; negative when no node is to blame."""
    name: str
    operator: str
    text: str
    """In TensorRT's own words."""


@dataclass(frozen=True)
class Outcome:
    """What came of an order."""

    version: str
    findings: tuple[Finding, ...]
    built: bool
    log: tuple[tuple[int, str], ...]
    """Severity and text of errors, warnings, and of what was built."""
    inspected: str = ""
    """What the engine says of its layers where the GPU is here."""

    def errors(self) -> list[str]:
        """Give the messages of the two worst severities, in order."""
        return [text for severity, text in self.log if severity <= 1]


def carry_out(
    graph: bytes, choice: Choice, profile: Profile, *, engine: Path, name: str, build: bool = True
) -> Outcome:
    """Let a process of its own ask TensorRT about a graph, and build it.

    Args:
        graph: Serialized ONNX.
        choice: Which TensorRT, for which GPU.
        profile: Shapes of the inputs with a free batch.
        engine: File to write.
        name: Of the network, for an error.
        build: False only asks.

    Raises:
        BuildError: If the process dies.
    """
    with tempfile.TemporaryDirectory(prefix="fourfold-") as folder:
        where = {key: str(Path(folder) / key) for key in ("graph", "outcome")}
        Path(where["graph"]).write_bytes(graph)
        order = where | {
            "module": choice.flavour.module,
            "ahead": choice.flavour.ahead,
            "compute": choice.compute,
            "engine": str(engine),
            "profile": dict(profile),
            "build": build,
        }
        path = Path(folder) / "order"
        path.write_text(json.dumps(order), encoding="utf-8")
        # -P: a file beside the child must not stand for a module of the same name.
        done = subprocess.run([sys.executable, "-P", str(child.__file__), str(path)], capture_output=True)
        if done.returncode != 0:
            raise BuildError(_died(name, choice, done))
        return _read(Path(where["outcome"]))


def _died(name: str, choice: Choice, done: subprocess.CompletedProcess[bytes]) -> str:
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    said = f", {last}" if last else ""
    return (
        f"expected {choice.flavour.title} to build {name}, got the end of its process ({how}{said}); "
        "free some memory, or use a smaller model"
    )


def _read(path: Path) -> Outcome:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Outcome(
        version=found["version"],
        findings=tuple(Finding(**finding) for finding in found["findings"]),
        built=found["built"],
        log=tuple((severity, text) for severity, text in found["log"]),
        inspected=found.get("inspected") or "",
    )


def profile_to_json(profile: Profile) -> dict[str, list[list[int]]]:
    """Write a profile for a file."""
    return {name: [list(shape) for shape in shapes] for name, shapes in profile.items()}
