"""Shape inference that never forgets what was already known."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as library


def infer_shapes(model: ir.Model) -> None:
    """Infer the shapes of all values; a size or a name that was known stays where inference only invents one.

    Args:
        model: Changed in place.
    """
    before = {value: value.shape for value in _values(model)}
    library.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    for value, old in before.items():
        new = value.shape
        if old is not None and (new is None or len(new) == len(old)):
            value.shape = ir.Shape(
                [_better(old[i], new[i] if new is not None else None) for i in range(len(old))]
            )


def _values(model: ir.Model) -> list[ir.Value]:
    return [value for graph in model.graphs() for node in graph for value in node.outputs]


def _better(old: int | ir.SymbolicDim, new: int | ir.SymbolicDim | None) -> int | str | None:
    if isinstance(new, int):
        return new
    return old if isinstance(old, int) else old.value or (new.value if new is not None else None)
