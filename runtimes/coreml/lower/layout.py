"""Operators that move numbers without changing them: reshapes, transposes, concatenations, paddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .call import (
    Call,
    Held,
    Unsupported,
    Var,
    constant,
    dtype_of,
    fixed,
    is_bool,
    is_float,
    known,
    like,
    rank_of,
    shape_of,
    size,
    variable,
)
from .elementwise import chosen
from .folded import MOST_DIMENSIONS, Folded, transposed
from .sizes import entries, reshape, vector
from .weight import Weight


def identity(c: Call) -> Held:
    """Hand on."""
    return c.held(0)


def dropout(c: Call) -> Held:
    """Hand on, and keep everything: a network that is deployed drops nothing."""
    training = c.array(2)
    if c.held(2) is not None and (training is None or training.any()):
        message = "dropout in training mode"
        raise Unsupported(message)
    x = c.held(0)
    if not c.asks(1):
        return x, None
    dims = shape_of(x)
    sizes = np.array(dims, np.int64) if all(map(fixed, dims)) else vector(c, dims, (x,))
    return x, filled(c, sizes, np.ones((), bool))


def reshape_to(c: Call) -> Held:
    """Give another shape: 0 keeps a size, -1 is worked out."""
    x, wanted = movable(c), c.held(1)
    array = known(wanted)
    if array is None:
        return c.mb.reshape(x=x.var if isinstance(x, Folded) else x, shape=wanted)
    dims: list[Any] = [int(d) for d in array]
    if not c.int("allowzero"):
        dims = [shape_of(x)[axis] if dim == 0 else dim for axis, dim in enumerate(dims)]
    if -1 not in dims:
        return reshape(c, x, dims)
    rest = math.prod(dim for dim in dims if dim != -1)
    dims[dims.index(-1)] = _quotient(math.prod(shape_of(x)), rest)
    return reshape(c, x, dims)


def movable(c: Call) -> Held:
    """Give the first input in whatever number of dimensions."""
    held = c.held(0)
    return held if isinstance(held, Folded) else variable(held)


def _quotient(whole: Any, part: Any) -> Any:
    """Divide sizes exactly; numbers of Python, so that shapes stay comparable."""
    if fixed(whole) and fixed(part):
        return int(whole) // int(part)
    answer = whole / part
    return int(answer) if fixed(answer) else answer


def flatten(c: Call) -> Held:
    """Give two axes: those before ``axis``, and the others."""
    x = movable(c)
    dims, axis = shape_of(x), c.int("axis", 1)
    axis = axis + len(dims) if axis < 0 else axis
    return reshape(c, x, [math.prod(dims[:axis]), math.prod(dims[axis:])])


def squeeze(c: Call) -> Held:
    """Drop axes of one element."""
    x, axes = movable(c), given_axes(c)
    if axes is None:
        axes = [axis for axis, dim in enumerate(shape_of(x)) if fixed(dim) and dim == 1]
    if isinstance(x, Folded):
        gone = {axis % rank_of(x) for axis in axes}
        return reshape(c, x, [dim for axis, dim in enumerate(x.shape) if axis not in gone])
    return c.mb.squeeze(x=x, axes=axes) if axes else c.mb.identity(x=x)


def unsqueeze(c: Call) -> Held:
    """Add axes of one element."""
    x, axes = movable(c), given_axes(c) or []
    rank = rank_of(x) + len(axes)
    if rank == 1 and axes and x.sym_val in c.scope.symbols.values():
        return vector(c, [x.sym_val], c.scope.sources)  # expand_dims would forget which free size it is
    new = sorted(axis % rank for axis in axes)
    if rank <= MOST_DIMENSIONS:
        return c.mb.expand_dims(x=x, axes=new)
    old = iter(shape_of(x))
    return reshape(c, x, [1 if axis in new else next(old) for axis in range(rank)])


def given_axes(c: Call) -> list[int] | None:
    """Give the axes: an attribute before opset 13, an input since."""
    if (axes := c.ints("axes")) is not None:
        return axes
    return None if c.held(1) is None else [int(axis) for axis in c.need(1, "the axes").ravel()]


def transpose(c: Call) -> Held:
    """Reorder the axes, by default turning them round."""
    held = c.held(0)
    order = c.ints("perm") or list(range(rank_of(held)))[::-1]
    if isinstance(held, Weight):
        return held.transposed(tuple(order))
    if isinstance(held, Folded):
        return transposed(c, held, order)
    return c.mb.transpose(x=c.var(0), perm=order)


def concat(c: Call) -> Held:
    """Join along an axis; empty tensors add nothing."""
    parts = [c.held(i) for i in range(c.count())]
    values = [variable(part) for part in parts if 0 not in shape_of(part)]
    return c.mb.concat(values=values, axis=c.int("axis")) if len(values) > 1 else values[0]


def split(c: Call) -> Held:
    """Cut along an axis, into given sizes or into equal ones with a smaller last."""
    x, axis = c.var(0), c.int("axis")
    sizes = c.ints("split") if c.has("split") else None
    if sizes is None and c.held(1) is not None:
        sizes = [int(s) for s in c.need(1, "the sizes of a split")]
    if sizes is None:
        whole, parts = size(x, axis, "the input of a split"), len(c.node.outputs)
        step = -(-whole // parts)
        sizes = [min(step, whole - step * part) for part in range(parts)]
    if len(sizes) == 1:
        return (c.mb.identity(x=x),)
    if 0 in sizes:
        message = "a part without elements"
        raise Unsupported(message)
    return tuple(c.mb.split(x=x, split_sizes=sizes, axis=axis))


def expand(c: Call) -> Held:
    """Repeat axes of one element until a shape is reached, which may have more axes."""
    x, wanted = c.held(0), c.held(1)
    dims = entries(wanted)
    array = known(x)
    if dims is None or (array is not None and array.size == 1 and not all(fixed(d) for d in dims)):
        if array is None or array.size != 1:
            message = "an expansion to a shape that only a run knows"
            raise Unsupported(message)
        return filled(c, wanted, array)
    return broadcast(c, variable(x), dims, wanted)


def broadcast(c: Call, x: Var, dims: Sequence[Any], source: Held) -> Var:
    """Repeat to a shape that broadcasts with that of ``x``.

    Args:
        c: The node.
        x: What is repeated.
        dims: Sizes and symbols.
        source: A vector of the program that holds ``dims``.
    """
    if len(dims) > rank_of(x):
        x = c.mb.expand_dims(x=x, axes=list(range(len(dims) - rank_of(x))))
    have = [*[1] * (rank_of(x) - len(dims)), *dims]
    single = [fixed(dim) and dim == 1 for dim in shape_of(x)]
    repeats = [want if one else 1 for one, want in zip(single, have, strict=True)]
    if all(fixed(times) for times in repeats):
        whole = np.array([int(times) for times in repeats], np.int32)
        return c.mb.identity(x=x) if np.all(whole == 1) else _tile(c, x, whole)
    first = len(have) - len(dims)
    parts = [
        _entry(c, source, axis - first, want) if one else _entry(c, c.mb.shape(x=x), axis, dim)
        for axis, (one, dim, want) in enumerate(zip(single, shape_of(x), have, strict=True))
    ]
    return _spread(c, x, c.mb.concat(values=parts, axis=0))


def _entry(c: Call, sizes: Var, axis: int, dim: Any) -> Held:
    """Give one size as a vector of one element."""
    if fixed(dim):
        return np.array([int(dim)], np.int32)
    return c.mb.slice_by_index(x=sizes, begin=[axis], end=[axis + 1])


def _spread(c: Call, x: Var, sizes: Var) -> Var:
    """Repeat to a shape that a run knows, as a sum with zeros: ``tile`` would forget free sizes."""
    if is_bool(x):
        return c.mb.cast(x=_spread(c, c.mb.cast(x=x, dtype="int32"), sizes), dtype="bool")
    return c.mb.add(x=x, y=c.mb.fill(shape=sizes, value=like(x, 0)))


def tile(c: Call) -> Held:
    """Repeat along every axis."""
    x, repeats = c.var(0), c.held(1)
    array = known(repeats)
    return _tile(c, x, repeats if array is None else array.astype(np.int32))


def _tile(c: Call, x: Var, repeats: Held) -> Var:
    """Repeat; MIL does not repeat truth values."""
    if not is_bool(x):
        return c.mb.tile(x=x, reps=repeats)
    return c.mb.cast(x=c.mb.tile(x=c.mb.cast(x=x, dtype="int32"), reps=repeats), dtype="bool")


def pad(c: Call) -> Held:
    """Pad with a constant, by reflection or by the edge; negative paddings cut."""
    x, mode = c.var(0), c.text("mode", "constant")
    pads = _pads(c, rank_of(x))
    x = _cut(c, x, pads)
    both = [(max(0, begin), max(0, end)) for begin, end in pads]
    if not any(begin or end for begin, end in both):
        return c.mb.identity(x=x)
    if mode == "constant":
        return _pad_constant(c, x, both)
    if mode not in ("reflect", "edge"):
        raise Unsupported(f"padding by {mode}")
    if any(begin or end for begin, end in both[:-2]):
        raise Unsupported(f"padding by {mode} along more than the last two axes")
    ends = np.array(both[-2:], np.int32).ravel()
    return c.mb.pad(x=x, pad=ends, mode={"edge": "replicate"}.get(mode, mode))


def _pad_constant(c: Call, x: Var, both: list[tuple[int, int]]) -> Var:
    value = c.array(2) if not c.has("value") else np.float32(c.float("value"))
    if value is None and c.held(2) is not None:
        message = "padding with a computed value"
        raise Unsupported(message)
    number = np.asarray(0 if value is None or value.size == 0 else value).reshape(())
    ends = np.array(both, np.int32).ravel()
    if is_float(x):
        return c.mb.pad(x=x, pad=ends, mode="constant", constant_val=like(x, number))
    kind = "bool" if is_bool(x) else "int32"
    padded = c.mb.pad(
        x=c.mb.cast(x=x, dtype="fp32"), pad=ends, mode="constant", constant_val=np.float32(number)
    )
    return c.mb.cast(x=padded, dtype=kind)


def _pads(c: Call, rank: int) -> list[tuple[int, int]]:
    """Give begin and end of every axis."""
    flat = c.ints("pads") or [int(p) for p in c.need(1, "the paddings")]
    axes = list(range(rank)) if c.held(3) is None else [int(a) % rank for a in c.need(3, "the axes")]
    found = dict(zip(axes, zip(flat[: len(axes)], flat[len(axes) :], strict=True), strict=True))
    return [found.get(axis, (0, 0)) for axis in range(rank)]


def _cut(c: Call, x: Var, pads: list[tuple[int, int]]) -> Var:
    if all(begin >= 0 and end >= 0 for begin, end in pads):
        return x
    begins = [max(0, -begin) for begin, _ in pads]
    ends = [min(0, end) for _, end in pads]
    return c.mb.slice_by_index(x=x, begin=begins, end=ends, end_mask=[end == 0 for end in ends])


def filled(c: Call, shape: Held, value: np.ndarray) -> Held:
    """Make a tensor of one number: now where the shape is known, else in the program."""
    array = known(shape)
    if array is not None:
        return np.full(tuple(int(d) for d in array), value.reshape(()))
    number = value.reshape(())
    kind = number.dtype
    exact = number.astype(np.int32 if kind.kind in "iub" else np.float32)
    answer = c.mb.fill(shape=shape, value=exact)
    if kind.kind == "b":
        return c.mb.cast(x=answer, dtype="bool")
    return c.mb.cast(x=answer, dtype="fp16") if kind == np.float16 else answer


def constant_of_shape(c: Call) -> Held:
    """Make a tensor of one number, by default zero."""
    value = c.node.attributes.get_tensor("value", None)
    return filled(c, c.held(0), np.zeros(1, np.float32) if value is None else value.numpy())


def shape(c: Call) -> Held:
    """Give the shape, or a part of it: a constant where all of it is known."""
    x = c.held(0)
    dims = shape_of(x)
    rank = len(dims)
    start, end = c.int("start", 0), c.int("end", rank)
    start, end = (min(max(p + rank if p < 0 else p, 0), rank) for p in (start, end))
    part = dims[start:end]
    if all(fixed(dim) for dim in part):
        return np.array([int(dim) for dim in part], np.int64)
    return vector(c, part, (x,))


def depth_to_space(c: Call) -> Held:
    """Spread channels of (B, C, H, W) over blocks of pixels."""
    x, block = c.var(0), c.int("blocksize")
    if c.text("mode", "DCR") == "CRD":
        return c.mb.pixel_shuffle(x=x, upscale_factor=np.int32(block))
    return c.mb.depth_to_space(x=x, block_size=np.int32(block))


def space_to_depth(c: Call) -> Held:
    """Gather blocks of pixels of (B, C, H, W) into channels."""
    if (mode := c.text("mode", "DCR")) != "DCR":
        raise Unsupported(f"blocks in the order {mode}")
    return c.mb.space_to_depth(x=c.var(0), block_size=np.int32(c.int("blocksize")))


def number_range(c: Call) -> Held:
    """Count from start to limit; up to a free size as a running sum, which is known to be of that size."""
    start, limit, step = (c.held(i) for i in range(3))
    if (symbol := _declared(c)) is not None and (known(start), known(step)) == (0, 1):
        ones = c.mb.fill(shape=vector(c, [symbol], c.scope.sources), value=np.int32(1))
        return c.mb.cumsum(x=ones, axis=0, exclusive=True)
    return c.mb.range_1d(start=variable(start), end=variable(limit), step=variable(step))


def _declared(c: Call) -> Any:
    """Give what MIL calls the size of a range as long as a free size of the inputs; None elsewhere."""
    shape = c.node.outputs[0].shape
    length = None if shape is None else shape[0]
    if not isinstance(length, ir.SymbolicDim) or dtype_of(c.var(0)).kind != "i":
        return None
    return c.scope.symbols.get(length.value or "")


def triangle(c: Call) -> Held:
    """Keep what lies above or below a diagonal of the last two axes."""
    x, k = c.var(0), c.array(1)
    if k is None and c.held(1) is not None:
        message = "a computed diagonal"
        raise Unsupported(message)
    rows, columns = (size(x, axis, "a matrix") for axis in (-2, -1))
    make = np.triu if c.int("upper", 1) else np.tril
    mask = make(np.ones((rows, columns), bool), 0 if k is None else int(k.reshape(())))
    return chosen(c, constant(mask), x, constant(np.zeros((), dtype_of(x))))
