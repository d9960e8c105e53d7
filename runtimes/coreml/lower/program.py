"""From one exported network to a MIL program, with the names, types and free sizes that an app meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....export.artifact import Exported, Refusal
from ....models.spec import Preprocess, TensorSpec
from ..sdk import builder, mil
from .call import Held, Scope, Unsupported, variable
from .elementwise import word
from .graph import Refused, lower_nodes, refusals, safe
from .table import OPERATORS

_WIDE = frozenset({"int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "bool"})
"""Types of inputs and outputs that an app hands over as int32."""


@dataclass(frozen=True)
class Lowered:
    """A MIL program, and how its features are called."""

    program: Any
    inputs: tuple[str, ...]
    """Names in the package, in the order of the network's inputs."""
    outputs: tuple[str, ...]


def lower(
    exported: Exported,
    system: str,
    target: Any,
    *,
    pixels: Preprocess | None = None,
    classifies: bool = False,
) -> Lowered:
    """Lower a network.

    Args:
        exported: The network.
        system: Oldest system that the program runs on, such as ``iOS17``.
        target: The same as coremltools says it.
        pixels: How the pixels 0..255 of its one input become numbers, where the program is to do that.
        classifies: True turns the first output into probabilities.

    Raises:
        Refused: If an operator, or a use of one, has no exact form.
    """
    model = exported.model
    free = _symbols(exported.inputs)
    scope = Scope(system, model.opset_imports.get("", 20), OPERATORS, free)
    empty = (
        Refusal(spec.name, "an input without elements, which Core ML does not have")
        for spec in exported.inputs
        if 0 in spec.shape
    )
    if missing := (*empty, *refusals(model.graph, scope)):
        raise Refused(missing)
    names = _names([spec.name for spec in exported.inputs], set())
    outputs = _names([spec.name for spec in exported.outputs], set(names))
    program = mil().Program()
    with mil().Function(_placeholders(exported.inputs, names, free), opset_version=target) as function:
        for spec, name, value in zip(exported.inputs, names, model.graph.inputs, strict=True):
            scope.values[value] = _taken(function.inputs[name], spec, pixels)
        scope = replace(scope, sources=tuple(function.inputs.values()))
        answers = lower_nodes(model.graph, scope)
        if classifies:
            answers[0] = builder().softmax(x=variable(answers[0]), axis=-1)
        given = zip(answers, outputs, exported.outputs, strict=True)
        function.set_outputs([_given(held, name, spec) for held, name, spec in given])
    program.add_function("main", function)
    return Lowered(program, names, outputs)


def _names(wanted: list[str], taken: set[str]) -> tuple[str, ...]:
    """Make names safe, and different from each other."""
    names: list[str] = []
    for name in wanted:
        free, number = safe(name), 2
        while free in taken:
            free, number = f"{safe(name)}_{number}", number + 1
        taken.add(free)
        names.append(free)
    return tuple(names)


def _symbols(inputs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """Give every free size one symbol wherever its name occurs."""
    return {dim: mil().get_new_symbol() for spec in inputs for dim in spec.shape if isinstance(dim, str)}


def _placeholders(
    inputs: tuple[TensorSpec, ...], names: tuple[str, ...], free: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the inputs."""
    types = mil().types
    made: dict[str, Any] = {}
    for spec, name in zip(inputs, names, strict=True):
        shape = [free[dim] if isinstance(dim, str) else dim for dim in spec.shape] or [1]
        kind = types.int32 if spec.dtype in _WIDE else types.fp16 if spec.dtype == "float16" else types.fp32
        made[name] = builder().placeholder(shape=shape, dtype=kind)
    return made


def _taken(var: Any, spec: TensorSpec, pixels: Preprocess | None) -> Held:
    """Bring an input to the type, rank and range that the graph expects."""
    if pixels is not None:
        mean, std = (np.array(part, np.float32).reshape(1, -1, 1, 1) for part in (pixels.mean, pixels.std))
        scaled = builder().mul(x=var, y=1 / (np.float32(255) * std))
        return builder().sub(x=scaled, y=mean / std)
    if not spec.shape:
        var = builder().squeeze(x=var, axes=[0])
    return builder().cast(x=var, dtype="bool") if spec.dtype == "bool" else var


def _given(held: Held, name: str, spec: TensorSpec) -> Any:
    """Make an output of its own, in a type that an app can read."""
    try:
        var = variable(held)
    except Unsupported as error:
        raise Refused((Refusal(spec.name, f"an output: {error}"),)) from error
    kind = (
        "int32"
        if spec.dtype in _WIDE
        else word(np.dtype(spec.dtype if spec.dtype == "float16" else "float32"))
    )
    if mil().types.builtin_to_string(var.dtype) != kind:
        return builder().cast(x=var, dtype=kind, name=name)
    return builder().identity(x=var, name=name)
