"""The fused layers of an engine: what the build log, or the engine's own inspector, says of them.

TensorRT-RTX logs one line per layer after a build with detailed profiling verbosity::

    Name: conv_1, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,3,8,8], Strides: [...],
    StrideOrder: [...], Datatype: Int8, Format: ... }], Constants: [...], Outputs: [...], TacticName: ...,
    StreamId: 0, Metadata: [ONNX Layer: conv][ONNX Layer: relu]

The inspector of an opened engine gives the same facts as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

from ..sessions import MOVED, OTHER

_HEAD = "Layers:\n"
_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<kernel>.*?), "
    r"StreamId: .*?Metadata: ?(?P<metadata>.*)$"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[-\d,]*)\],.*?Datatype: (?P<type>\w+), Format: .*?\}"
)
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|$)")
"""The names stand between unprintable separators."""
_MEMORY = re.compile(r"^(?:Total|Max) (.*?) Memory: (\d+) bytes$")

_FLOATS = {"Float": "fp32", "Half": "fp16", "BFloat16": "bf16"}
_WORDS = (("FP32", "Float"), ("FP16", "Half"), ("BF16", "BFloat16"), ("INT8", "Int8"), ("Int8", "Int8"))
"""How the inspector of classic TensorRT names types inside the name of a format."""
_BYTES = frozenset({"Int8", "UInt8", "FP8"})
_SHAPING = frozenset({"shape_call", "memset", "reshape", "cjmp", "jmp", "wait", "signal", "copy", "NoOp"})
"""Layers that settle shapes, memory and jumps, and compute no number of the network."""
_POINTWISE = frozenset({"kgen", "cast", "Reformat", "PointWise", "PointWiseV2", "Shuffle", "Pooling"})
"""Layers without a product: on 8 bits they move numbers, or convert them."""


@dataclass(frozen=True)
class Tensor:
    """What a layer reads or writes."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One fused layer."""

    name: str
    kind: str
    kernel: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[str, ...]
    """Names of the graph's nodes in it."""

    @property
    def precision(self) -> str:
        """Name the precision it computes in; a conversion is float arithmetic."""
        read, written = [t.type for t in self.inputs], [t.type for t in self.outputs]
        if self.kind in _SHAPING:
            return OTHER
        if _BYTES.intersection(read) and self.kind not in _POINTWISE:
            return "int8"
        found = next((_FLOATS[kind] for kind in (*read, *written) if kind in _FLOATS), None)
        return found or (MOVED if _BYTES.intersection(read) else OTHER)


def from_log(messages: Iterable[str]) -> tuple[Layer, ...]:
    """Read the layers of a build log; none where it lists none."""
    text = next((message for message in messages if message.startswith(_HEAD)), "")
    found = (_LAYER.match(line) for line in text.splitlines())
    return tuple(_layer(match) for match in found if match)


def memory_from_log(messages: Iterable[str]) -> dict[str, int]:
    """Read the bytes of memory by purpose: ``Activation``, ``Weights``, ``Scratch``, ..."""
    found = (_MEMORY.match(message) for message in messages)
    return {match[1]: int(match[2]) for match in found if match}


def from_inspector(text: str) -> tuple[Layer, ...]:
    """Read the layers that an engine tells of itself; those without details are named only.

    Raises:
        ValueError: If the text is something else.
    """
    found: object = json.loads(text)
    layers = cast("dict[str, object]", found).get("Layers") if isinstance(found, dict) else None
    if not isinstance(layers, list):
        message = "no list of layers"
        raise ValueError(message)
    return tuple(_inspected(entry) for entry in cast("list[object]", layers))


def layers_to_json(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """Write layers for a file."""
    return [asdict(layer) | {"precision": layer.precision} for layer in layers]


def layers_from_json(entries: Iterable[dict[str, Any]]) -> tuple[Layer, ...]:
    """Read what ``layers_to_json`` wrote.

    Raises:
        KeyError: If something is missing.
        TypeError: If something is of another kind.
    """
    return tuple(
        Layer(
            name=entry["name"],
            kind=entry["kind"],
            kernel=entry["kernel"],
            inputs=_stored(entry["inputs"]),
            constants=_stored(entry["constants"]),
            outputs=_stored(entry["outputs"]),
            nodes=tuple(entry["nodes"]),
        )
        for entry in entries
    )


def _layer(match: re.Match[str]) -> Layer:
    return Layer(
        name=match["name"],
        kind=match["kind"],
        kernel=match["kernel"],
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match["constants"] or ""),
        outputs=_tensors(match["outputs"]),
        nodes=_nodes(match["metadata"]),
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(_tensor(match["name"], match["type"], match["shape"]) for match in _TENSOR.finditer(text))


def _tensor(name: str, kind: str, shape: str) -> Tensor:
    return Tensor(name, kind, tuple(int(size) for size in shape.split(",") if size))


def _nodes(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_NODE.findall(text.strip())))


def _inspected(entry: object) -> Layer:
    if isinstance(entry, str):  # an engine built without details gives names only
        return Layer(entry, "", "", (), (), (), ())
    facts = cast("dict[str, Any]", entry)
    return Layer(
        name=facts.get("Name", ""),
        kind=facts.get("LayerType", ""),
        kernel=facts.get("TacticName", ""),
        inputs=_described(facts.get("Inputs")),
        constants=_described(facts.get("Constants")),
        outputs=_described(facts.get("Outputs")),
        nodes=_nodes(facts.get("Metadata", "")),
    )


def _described(entries: object) -> tuple[Tensor, ...]:
    if not isinstance(entries, list):  # single values stand here for layers without tensors
        return ()
    return tuple(
        Tensor(fact.get("Name", ""), _type(fact), tuple(fact.get("Dimensions", ())))
        for fact in cast("list[dict[str, Any]]", entries)
    )


def _type(fact: dict[str, Any]) -> str:
    if "Datatype" in fact:
        return str(fact["Datatype"])
    words = str(fact.get("Format/Datatype", ""))
    return next((name for word, name in _WORDS if word in words), words)


def _stored(entries: Iterable[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(fact["name"], fact["type"], tuple(fact["shape"])) for fact in entries)
