"""The sizes that an ONNX file leaves open: named, and fixed where the user says so."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..errors import UsageError
from ..models.spec import TensorSpec
from .names import rename_dimensions
from .untrusted import MAX_ELEMENTS


def name_free(model: ir.Model) -> None:
    """Call the leading free dimension of the inputs ``"batch"``, and name what has no name.

    Args:
        model: Changed in place.
    """
    for value in model.graph.inputs:
        value.shape = ir.Shape([_named(d, i, value.name) for i, d in enumerate(value.shape or ())])
    leading = [list(value.shape or ())[:1] for value in model.graph.inputs]
    free = [dim.value for dims in leading for dim in dims if isinstance(dim, ir.SymbolicDim)]
    if free and free[0] != "batch":
        # A dimension that the file calls "batch" but that does not lead must not be taken for it.
        rename_dimensions(model, {"batch": "batch_of_file", str(free[0]): "batch"})
    elif not free:
        rename_dimensions(model, {"batch": "batch_of_file"})


def fix_free(model: ir.Model, shape: tuple[int, ...], file: str) -> None:
    """Fix the free dimensions of the one input, except its batch.

    Args:
        model: With named dimensions; changed in place.
        shape: Sizes of the input without the batch.
        file: Name of the file, for errors.

    Raises:
        UsageError: If there are several inputs, or a size contradicts what the file fixes.
    """
    if len(model.graph.inputs) != 1:
        names = ", ".join(str(value.name) for value in model.graph.inputs) or "none"
        message = f"{file}: expected one input for an input shape, got {names}; fix their sizes in the file"
        raise UsageError(message)
    declared = list(model.graph.inputs[0].shape or ())[1:]
    sizes: dict[str, int] = {}
    fits = len(declared) == len(shape)
    for dim, size in zip(declared, shape, strict=False):
        stated = dim if isinstance(dim, int) else sizes.setdefault(str(dim.value), size)
        fits = fits and stated == size
    if not fits:
        stated = ",".join(str(dim if isinstance(dim, int) else dim.value) for dim in declared)
        raise UsageError(
            f"{file}: expected an input shape like {stated}, got {_text(shape)}; keep what is fixed"
        )
    if math.prod(shape) > MAX_ELEMENTS:
        message = (
            f"{file}: expected an input of at most {MAX_ELEMENTS} values, got {_text(shape)}; make it smaller"
        )
        raise UsageError(message)
    rename_dimensions(model, sizes)


def advice(inputs: tuple[TensorSpec, ...]) -> str:
    """Say what to do about a graph that does not run at the sizes chosen for its free dimensions.

    Args:
        inputs: With named free dimensions.
    """
    free = [f"{d!r} of {s.name}" for s in inputs for d in s.shape[1:] if isinstance(d, str) and d != "batch"]
    if not free:
        return "run it where it was made, and export it again"
    listed = " and ".join(free)
    if len(inputs) != 1:
        return f"export it again with fixed sizes for {listed}"
    shape = ",".join(str(d) for d in inputs[0].shape[1:])
    return f"give --input-shape {shape} with sizes that it takes for {listed}"


def _named(dim: int | ir.SymbolicDim, index: int, name: str | None) -> int | str:
    if isinstance(dim, int):
        return dim
    # Some exporters write "?" for every size they do not know.
    known = dim.value if dim.value != "?" else None
    return known or ("batch" if index == 0 else f"{name}_{index}")


def _text(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))
