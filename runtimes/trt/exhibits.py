"""An engine as tables for the report."""

from __future__ import annotations

from collections import Counter

from ..exhibit import Exhibit
from ..sessions import MOVED, OTHER
from .facts import Facts
from .layers import Layer, Tensor

_MOST_ROWS = 150
"""Fused layers that are shown; the file beside the engine has them all."""
_LONGEST_NAME = 80
_TYPES = {"Float": "fp32", "Half": "fp16", "BFloat16": "bf16", "Int8": "int8", "UInt8": "uint8"}


def exhibits_of(facts: Facts, cannot_run: str | None) -> tuple[Exhibit, ...]:
    """Show what was built, for which GPU, and out of which layers.

    Args:
        facts: Of the engine.
        cannot_run: Why it was never run here; None where it can be.
    """
    return (_engine(facts, cannot_run), _precisions(facts), _operators(facts), _layers(facts))


def _engine(facts: Facts, cannot_run: str | None) -> Exhibit:
    rows = [
        ("built with", f"{facts.title} {facts.version} for {facts.compute}"),
        ("why", facts.why),
        ("precision of the graph", facts.precision),
        ("size", f"{facts.size:,} bytes"),
        ("sha256", facts.sha256),
        *((f"shapes of {name}", _shapes(shapes)) for name, shapes in facts.profile.items()),
        *((f"{purpose} memory".lower(), f"{size:,} bytes") for purpose, size in facts.memory.items()),
    ]
    note = "Memory as the builder plans it."
    if cannot_run:
        note += f" This engine was built, never run: {cannot_run}."
    return Exhibit("TensorRT engine", ("what", "value"), tuple(rows), note)


def _shapes(shapes: list[list[int]]) -> str:
    least, usual, most = ("x".join(map(str, shape)) for shape in shapes)
    return f"{least} to {most}, built for {usual}"


def _precisions(facts: Facts) -> Exhibit:
    counted = Counter((layer.precision, layer.kind) for layer in facts.layers if layer.precision != OTHER)
    rows = tuple((_name(precision), kind, str(count)) for (precision, kind), count in counted.most_common())
    note = "Fused layers that compute; layers that settle shapes, memory and jumps are left out."
    return Exhibit("Precision of the fused layers", ("precision", "kind", "layers"), rows, note)


def _operators(facts: Facts) -> Exhibit:
    rows = tuple((operator, str(count), "taken") for operator, count in facts.operators.items())
    note = "TensorRT was asked about every node of the graph before building; it takes them all."
    return Exhibit("Support by operator", ("operator", "nodes", "TensorRT"), rows, note)


def _layers(facts: Facts) -> Exhibit:
    computing = [layer for layer in facts.layers if layer.precision != OTHER]
    rows = tuple(_row(layer) for layer in computing[:_MOST_ROWS])
    left = len(computing) - len(rows)
    note = "From the build log." + (f" {left} more are in the file beside the engine." if left else "")
    return Exhibit("Fused layers", ("layer", "kind", "precision", "types", "kernel", "nodes"), rows, note)


def _row(layer: Layer) -> tuple[str, ...]:
    return (
        _short(layer.name),
        layer.kind,
        _name(layer.precision),
        f"{_types(layer.inputs)} → {_types(layer.outputs)}",
        _short(layer.kernel),
        _short(", ".join(layer.nodes)),
    )


def _types(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(dict.fromkeys(_TYPES.get(tensor.type, tensor.type.lower()) for tensor in tensors))


def _name(precision: str) -> str:
    return "moves bytes" if precision == MOVED else precision


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
