"""Names a person can find again: nodes and values after the torch module that they came from."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir
import onnx_ir.passes.common as library

from ..models.spec import TensorSpec

_SCOPES = "pkg.torch.onnx.name_scopes"
_ANONYMOUS = re.compile(r"val_\d+")


def name_after_modules(model: ir.Model) -> None:
    """Name nodes ``module.path/Operator``, their values likewise, and drop what else the exporter noted.

    Inputs, outputs and parameters keep their names; an unnamed constant is called after its first user.

    Args:
        model: As torch's exporter made it; changed in place.
    """
    taken: Counter[str] = Counter()
    new: dict[ir.Value, str] = {}
    kept = {*model.graph.outputs, *model.graph.inputs}
    for node in model.graph.all_nodes():
        node.name = _unique(_path(node) + node.op_type, taken)
        for index, value in enumerate(node.outputs):
            if value not in kept:
                new[value] = node.name if index == 0 else f"{node.name}.{index}"
        for index, value in enumerate(node.inputs):
            if value is not None and _is_anonymous(value):
                new.setdefault(value, f"{node.name}.input{index}")
    ir.convenience.rename_values(list(new), list(new.values()))
    library.ClearMetadataAndDocStringPass()(model)


def name_dimensions(model: ir.Model, inputs: tuple[TensorSpec, ...]) -> None:
    """Call the free dimensions what the inputs call them, everywhere in the graph.

    Args:
        model: Its inputs stand in the order of ``inputs``; changed in place.
        inputs: With named free dimensions.
    """
    renamed: dict[str, str | int] = {}
    for value, spec in zip(model.graph.inputs, inputs, strict=True):
        for old, wanted in zip(value.shape or (), spec.shape, strict=True):
            if isinstance(old, ir.SymbolicDim) and isinstance(wanted, str) and old.value:
                renamed[old.value] = wanted
    rename_dimensions(model, renamed)


def rename_dimensions(model: ir.Model, names: Mapping[str, str | int]) -> None:
    """Give free dimensions another name, or a size, everywhere in the graph.

    Args:
        model: Changed in place.
        names: New name or size by old name; others stay.
    """
    for graph in model.graphs():
        for value in {*graph.inputs, *(v for node in graph for v in node.outputs)}:
            if value.shape is not None:
                value.shape = ir.Shape([_renamed(dim, names) for dim in value.shape])


def _path(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    # The last scope is the traced call, the one before it the module that made the call.
    return f"{scopes[-2]}/" if len(scopes) > 1 and scopes[-2] else ""


def _is_anonymous(value: ir.Value) -> bool:
    return value.is_initializer() and value.name is not None and _ANONYMOUS.fullmatch(value.name) is not None


def _unique(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"


def _renamed(dim: int | ir.SymbolicDim, names: Mapping[str, str | int]) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    if dim.value in names:
        return names[dim.value]
    return re.sub(r"\w+", lambda word: str(names.get(word.group(), word.group())), dim.value)
