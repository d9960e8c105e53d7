"""What is known about an engine, in a JSON file beside it: an engine alone says nothing without its GPU."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx_ir as ir

from ...errors import RunError
from ...export.artifact import Exported
from ...models.spec import TensorSpec
from ..sessions import reason, specs_from_json, specs_to_json
from .flavour import Choice
from .layers import Layer, from_inspector, from_log, layers_from_json, layers_to_json, memory_from_log
from .order import Outcome, Profile, profile_to_json


@dataclass(frozen=True)
class Facts:
    """An engine, described."""

    title: str
    """Of the TensorRT that built it: ``TensorRT-RTX``."""
    module: str
    version: str
    compute: str
    why: str
    """Why this TensorRT was taken."""
    precision: str
    sha256: str
    """Of the engine."""
    size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Mapping[str, list[list[int]]]
    """By input with a free batch: its shape at the smallest, usual and largest batch."""
    operators: Mapping[str, int]
    """Nodes of the graph by operator, all of which TensorRT took."""
    memory: Mapping[str, int]
    """Bytes by purpose."""
    layers: tuple[Layer, ...]


def facts_of(exported: Exported, choice: Choice, profile: Profile, outcome: Outcome, engine: bytes) -> Facts:
    """Gather what is known of an engine that was just built."""
    messages = [text for _, text in outcome.log]
    return Facts(
        title=choice.flavour.title,
        module=choice.flavour.module,
        version=outcome.version,
        compute=choice.compute,
        why=choice.reason,
        precision=exported.precision,
        sha256=hashlib.sha256(engine).hexdigest(),
        size=len(engine),
        inputs=exported.inputs,
        outputs=exported.outputs,
        profile=profile_to_json(profile),
        operators=_operators(exported.model),
        memory=memory_from_log(messages),
        layers=from_inspector(outcome.inspected) if outcome.inspected else from_log(messages),
    )


def write_facts(facts: Facts, path: Path) -> None:
    """Write them; the same facts give the same bytes."""
    entries: dict[str, Any] = vars(facts) | {
        "inputs": specs_to_json(facts.inputs),
        "outputs": specs_to_json(facts.outputs),
        "layers": layers_to_json(facts.layers),
    }
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def read_facts(engine: Path) -> Facts:
    """Read the facts beside an engine, and check that it is the one they describe.

    Raises:
        RunError: If a file is missing, damaged, or the engine is another one.
    """
    try:
        data = engine.read_bytes()
        found: object = json.loads(beside(engine).read_text(encoding="utf-8"))
        facts = _facts(cast("dict[str, Any]", found))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(_not_opened(engine, reason(error))) from error
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise RunError(_not_opened(engine, f"an engine that {beside(engine).name} does not describe"))
    return facts


def beside(engine: Path) -> Path:
    """Give the path of the facts of an engine."""
    return engine.with_suffix(".json")


def _facts(entries: dict[str, Any]) -> Facts:
    values: dict[str, Any] = entries | {
        "inputs": specs_from_json(entries["inputs"]),
        "outputs": specs_from_json(entries["outputs"]),
        "layers": layers_from_json(entries["layers"]),
    }
    return Facts(**values)


def _not_opened(engine: Path, why: str) -> str:
    return f"expected TensorRT to open {engine.name}, got: {why}; compile it again"


def _operators(model: ir.Model) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in model.graph.all_nodes()).items()))
