"""Resize: by MIL's own operators where they agree with ONNX, else a product with a matrix per axis.

Every resize with constant sizes is linear in the picture and works on one axis after the other. The matrix of
an axis is what the reference evaluator makes of the identity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ....export.artifact import Array
from ...reference import evaluate
from .call import Call, Held, Unsupported, Var, dtype_of, fixed, like, rank_of, shape_of, size
from .sizes import entries

_LINEAR = {
    "half_pixel": "UNALIGN_CORNERS",
    "pytorch_half_pixel": "UNALIGN_CORNERS",
    "align_corners": "STRICT_ALIGN_CORNERS",
}
"""Coordinates of ONNX under which MIL's bilinear resize computes the same."""


def resize(c: Call) -> Held:
    """Resize any axes to constant sizes or by constant factors."""
    x = c.var(0)
    if c.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        message = "a resize of a region"
        raise Unsupported(message)
    if c.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        message = "a resize that keeps the aspect"
        raise Unsupported(message)
    scales, wanted = _wanted(c, x)
    changed = {axis: to for axis, to in wanted.items() if scales[axis] != 1 or to != shape_of(x)[axis]}
    if not changed:
        return c.mb.identity(x=x)
    if (native := _native(c, x, changed, scales)) is not None:
        return native
    for axis, to in changed.items():
        x = _along(c, x, axis, _matrix(c, size(x, axis, "the picture"), to, scales[axis]))
    return x


def _wanted(c: Call, x: Var) -> tuple[dict[int, float], dict[int, int]]:
    """Give the factor and the new size of every axis that is named."""
    axes = c.ints("axes") or list(range(rank_of(x)))
    axes = [axis % rank_of(x) for axis in axes]
    first = 1 if c.scope.opset == 10 else 2
    held = c.held(first + 1)
    if held is not None and 0 not in shape_of(held) and (sizes := entries(held)) is not None:
        found = dict(zip(axes, sizes, strict=True))
        new = {a: _known(to) for a, to in found.items() if to != shape_of(x)[a]}
        have = {a: size(x, a, "the picture") for a in new}
        return {a: new[a] / have[a] if a in new else 1.0 for a in axes}, new
    factors = [float(f) for f in c.need(first, "the scales of a resize")]
    scales = dict(zip(axes, factors, strict=True))
    return scales, {a: int(np.floor(size(x, a, "the picture") * f)) for a, f in scales.items() if f != 1}


def _known(to: Any) -> int:
    if not fixed(to):
        message = "a resize to a size that only a run knows"
        raise Unsupported(message)
    return int(to)


def _native(c: Call, x: Var, changed: dict[int, int], scales: dict[int, float]) -> Var | None:
    """Use an operator of MIL where it means the same."""
    if rank_of(x) != 4 or not set(changed) <= {2, 3} or c.int("antialias"):
        return None
    mode = c.text("mode", "nearest")
    where = c.text("coordinate_transformation_mode", "half_pixel")
    factors = {axis: scales.get(axis, 1.0) for axis in (2, 3)}
    whole = {axis: int(factor) for axis, factor in factors.items()}
    if mode == "nearest" and _repeats(c, where) and all(whole[a] == factors[a] for a in factors):
        return c.mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=np.int32(whole[2]), scale_factor_width=np.int32(whole[3])
        )
    sizes = {axis: changed.get(axis, shape_of(x)[axis]) for axis in (2, 3)}
    exact = all(sizes[a] == shape_of(x)[a] * factors[a] for a in changed)
    if mode == "linear" and where in _LINEAR and exact and all(isinstance(s, int) for s in sizes.values()):
        if where == "pytorch_half_pixel" and 1 in sizes.values():
            return None
        return c.mb.resize_bilinear(
            x=x, target_size_height=sizes[2], target_size_width=sizes[3], sampling_mode=_LINEAR[where]
        )
    return None


def _repeats(c: Call, where: str) -> bool:
    """Say whether a nearest resize by a whole factor repeats each element."""
    rounding = c.text("nearest_mode", "round_prefer_floor")
    return (where == "asymmetric" and rounding == "floor") or (
        where == "half_pixel" and rounding in ("round_prefer_floor", "round_prefer_ceil")
    )


def _along(c: Call, x: Var, axis: int, matrix: Array) -> Var:
    """Multiply one axis by a matrix of shape (size before, size after)."""
    last = rank_of(x) - 1
    weight = like(x, matrix)
    if axis == last:
        return c.mb.matmul(x=x, y=weight)
    if axis == last - 1:
        return c.mb.matmul(x=weight.T.copy(), y=x)
    order = [a for a in range(last + 1) if a != axis] + [axis]
    moved = c.mb.matmul(x=c.mb.transpose(x=x, perm=order), y=weight)
    return c.mb.transpose(x=moved, perm=[order.index(a) for a in range(last + 1)])


def _matrix(c: Call, before: int, after: int, scale: float) -> Array:
    """Resize the identity along its last axis: row i is what element i alone becomes."""
    kept: dict[str, Any] = {
        name: attribute
        for name, attribute in c.node.attributes.items()
        if name not in ("axes", "keep_aspect_ratio_policy")
    }
    x = ir.val("x", ir.DataType.FLOAT, (1, 1, before, before))
    scales = ir.val("scales", ir.DataType.FLOAT, (4,))
    node = ir.Node("", "Resize", [x, None, scales], list(kept.values()), num_outputs=1)
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x, scales], node.outputs, nodes=[node], opset_imports={"": max(c.scope.opset, 11)})
    feed = {
        "x": np.eye(before, dtype=np.float32).reshape(1, 1, before, before),
        "scales": np.array([1, 1, 1, scale], np.float32),
    }
    matrix = evaluate(ir.Model(graph, ir_version=10))(feed)["y"].reshape(before, -1)
    if matrix.shape[1] != after:
        raise Unsupported(f"a resize from {before} to {after} elements by {scale:g}")
    return matrix.astype(dtype_of(c.var(0)))
