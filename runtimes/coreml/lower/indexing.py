"""Slices, gathers and scatters. Negative indices count from the end; MIL guards only some of them itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....export.artifact import Array
from .call import (
    Call,
    Held,
    Unsupported,
    Var,
    constant,
    dtype_of,
    fixed,
    is_bool,
    like,
    rank_of,
    shape_of,
    size,
    variable,
)
from .elementwise import chosen

_INT32 = np.iinfo(np.int32)
_NEVER_NEGATIVE = frozenset({"topk", "reduce_argmax", "reduce_argmin", "argsort", "range_1d", "non_zero"})


def cut(c: Call) -> Held:
    """Slice: constant ends per axis, or one computed position."""
    x, rank = c.held(0), rank_of(c.held(0))
    starts, ends, axes, steps = _arguments(c, rank)
    if starts is None or ends is None:
        return _cut_computed(c, variable(x), axes, steps)
    x = variable(x)
    begin, end, stride, open_begin, open_end = (
        [0] * rank,
        [0] * rank,
        [1] * rank,
        [True] * rank,
        [True] * rank,
    )
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0:
            x, first, last, step = _turned(c, x, axis, first, last, step)
        dim, stride[axis] = shape_of(x)[axis], step
        if fixed(dim):
            first, last = (min(max(p + dim if p < 0 else p, 0), int(dim)) for p in (first, last))
            if last <= first:
                message = "a slice without elements"
                raise Unsupported(message)
        begin[axis], open_begin[axis] = first, first == 0
        end[axis], open_end[axis] = last, last >= _INT32.max or (fixed(dim) and last == dim)
    return c.mb.slice_by_index(
        x=x, begin=begin, end=end, stride=stride, begin_mask=open_begin, end_mask=open_end
    )


def _arguments(c: Call, rank: int) -> tuple[list[int] | None, list[int] | None, list[int], list[int]]:
    """Give starts, ends, axes and steps: attributes before opset 10, inputs since; None for computed ones."""
    if c.has("starts"):
        starts, ends = c.ints("starts") or [], c.ints("ends") or []
        axes = c.ints("axes") or list(range(len(starts)))
        return starts, ends, [a % rank for a in axes], [1] * len(starts)
    starts, ends = (_clipped(c.array(i)) for i in (1, 2))
    count = len(starts or ends or []) or int(shape_of(c.held(1))[0])
    axes = _clipped(c.need(3, "the axes of a slice")) if c.held(3) is not None else list(range(count))
    steps = _clipped(c.need(4, "the steps of a slice")) if c.held(4) is not None else [1] * count
    return starts, ends, [a % rank for a in axes or []], steps or []


def _clipped(array: Array | None) -> list[int] | None:
    return None if array is None else [min(max(int(v), _INT32.min), _INT32.max) for v in array.ravel()]


def _turned(c: Call, x: Var, axis: int, first: int, last: int, step: int) -> tuple[Var, int, int, int]:
    """Turn an axis round, so that a slice backwards becomes one forwards."""
    dim = size(x, axis, "what is sliced backwards")
    first = min(max(first + dim if first < 0 else first, -1), dim - 1)
    last = min(max(last + dim if last < 0 else last, -1), dim - 1)
    flipped = c.mb.reverse(x=x, axes=[axis])
    return flipped, dim - 1 - first, dim - 1 - last, -step


def _cut_computed(c: Call, x: Var, axes: list[int], steps: list[int]) -> Var:
    """Slice with ends that the network computes; they must count from the beginning."""
    if any(step != 1 for step in steps):
        message = "a slice with computed ends and steps"
        raise Unsupported(message)
    rank = rank_of(x)
    masks = [axis not in axes for axis in range(rank)]
    return c.mb.slice_by_index(
        x=x, begin=_spread(c, 1, axes, rank), end=_spread(c, 2, axes, rank), begin_mask=masks, end_mask=masks
    )


def _spread(c: Call, index: int, axes: list[int], rank: int) -> Var:
    """Put the ends of some axes into a vector with one entry per axis."""
    given, zero = c.var(index), np.zeros(1, np.int32)
    parts = [
        c.mb.slice_by_index(x=given, begin=[axes.index(axis)], end=[axes.index(axis) + 1])
        if axis in axes
        else zero
        for axis in range(rank)
    ]
    return c.mb.concat(values=parts, axis=0) if rank > 1 else parts[0]


def gather(c: Call) -> Held:
    """Pick elements along an axis."""
    x = c.held(0)
    axis = c.int("axis") % rank_of(x)
    indices = c.array(1)
    if indices is None:
        places = _from_start(c, c.var(1), x, axis)
        return _as_numbers(c, variable(x), lambda data: c.mb.gather(x=data, indices=places, axis=axis))
    if fixed(shape_of(x)[axis]):
        indices = np.where(indices < 0, indices + shape_of(x)[axis], indices)
    if indices.ndim == 0:
        return _one(c, variable(x), axis, int(indices))
    if indices.ndim == 1 and indices.size > 1 and np.all(np.diff(indices) == 1) and indices[0] >= 0:
        return _run(c, variable(x), axis, int(indices[0]), int(indices[-1]) + 1)
    places = constant(indices)
    return _as_numbers(c, variable(x), lambda data: c.mb.gather(x=data, indices=places, axis=axis))


def _one(c: Call, x: Var, axis: int, index: int) -> Var:
    """Pick one element, which drops the axis."""
    rank = rank_of(x)
    here = [a == axis for a in range(rank)]
    others = [not h for h in here]
    begin = [index if h else 0 for h in here]
    return c.mb.slice_by_index(
        x=x, begin=begin, end=begin, begin_mask=others, end_mask=others, squeeze_mask=here
    )


def _run(c: Call, x: Var, axis: int, first: int, last: int) -> Var:
    """Pick neighbours."""
    others = [a != axis for a in range(rank_of(x))]
    begin, end = ([p if a == axis else 0 for a in range(rank_of(x))] for p in (first, last))
    return c.mb.slice_by_index(x=x, begin=begin, end=end, begin_mask=others, end_mask=others)


def _as_numbers(c: Call, x: Var, pick: Callable[[Var], Var]) -> Var:
    """Apply to truth values as to whole numbers, since MIL moves no truth values."""
    if not is_bool(x):
        return pick(x)
    return c.mb.cast(x=pick(c.mb.cast(x=x, dtype="int32")), dtype="bool")


def _from_start(c: Call, indices: Var, x: Held, axis: int) -> Var:
    """Count computed indices from the beginning."""
    if indices.op is not None and indices.op.op_type in _NEVER_NEGATIVE:
        return indices
    dim = shape_of(x)[axis]
    length = like(indices, dim) if fixed(dim) else _length(c, x, axis)
    wrapped = c.mb.add(x=indices, y=length)
    return c.mb.select(cond=c.mb.less(x=indices, y=like(indices, 0)), a=wrapped, b=indices)


def _length(c: Call, x: Var, axis: int) -> Var:
    """Give a size that only a run knows, as a vector of one element."""
    return c.mb.slice_by_index(x=c.mb.shape(x=x), begin=[axis], end=[axis + 1])


def _places(c: Call, index: int, x: Held, axis: int) -> Var:
    """Give indices along one axis, counted from the beginning."""
    array = c.array(index)
    if array is None:
        return _from_start(c, c.var(index), x, axis)
    negative = array < 0
    return constant(array + negative * size(x, axis, "what is indexed") if negative.any() else array)


def gather_elements(c: Call) -> Held:
    """Pick one element for every index; smaller indices meet the beginning of each axis."""
    x, axis = c.var(0), c.int("axis") % rank_of(c.held(0))
    places = _places(c, 1, x, axis)
    x = _beginning(c, x, shape_of(places), axis)
    return _as_numbers(c, x, lambda data: c.mb.gather_along_axis(x=data, indices=places, axis=axis))


def _beginning(c: Call, x: Var, dims: tuple[object, ...], axis: int) -> Var:
    """Cut all axes but one to given sizes."""
    ends, opened = [0] * rank_of(x), [True] * rank_of(x)
    for a, (have, want) in enumerate(zip(shape_of(x), dims, strict=True)):
        if a != axis and fixed(have) and fixed(want) and have != want:
            ends[a], opened[a] = int(want), False  # type: ignore[arg-type]
    if all(opened):
        return x
    return c.mb.slice_by_index(x=x, begin=[0] * rank_of(x), end=ends, end_mask=opened)


def gather_nd(c: Call) -> Held:
    """Pick by whole positions."""
    indices = _positions(c)
    batch = c.int("batch_dims")
    return _as_numbers(
        c, c.var(0), lambda data: c.mb.gather_nd(x=data, indices=indices, batch_dims=np.int32(batch))
    )


def _positions(c: Call) -> Var:
    """Give positions, counted from the beginning along each axis that they name."""
    array, x, batch = c.array(1), c.held(0), c.int("batch_dims")
    width = int(shape_of(c.held(1))[-1])
    if array is None and c.var(1).op is not None and c.var(1).op.op_type in _NEVER_NEGATIVE:
        return c.var(1)
    if array is not None and (array >= 0).all():
        return constant(array)
    indices, dims = c.var(1), shape_of(x)[batch : batch + width]
    sizes = np.array([int(d) for d in dims], np.int32) if all(fixed(d) for d in dims) else None
    if sizes is None:
        sizes = c.mb.slice_by_index(x=c.mb.shape(x=c.var(0)), begin=[batch], end=[batch + width])
    return c.mb.select(cond=c.mb.less(x=indices, y=np.int32(0)), a=c.mb.add(x=indices, y=sizes), b=indices)


def scatter_elements(c: Call) -> Held:
    """Write one element for every index."""
    x, updates = c.var(0), c.var(2)
    axis = c.int("axis") % rank_of(x)
    places = _places(c, 1, x, axis)
    for a, (have, want) in enumerate(zip(shape_of(x), shape_of(places), strict=True)):
        if a != axis and have != want:
            message = f"a scatter whose data and indices are not known to have one size along axis {a}"
            raise Unsupported(message)
    return c.mb.scatter_along_axis(data=x, indices=places, updates=updates, axis=axis, mode=_mode(c))


def scatter_nd(c: Call) -> Held:
    """Write by whole positions."""
    return c.mb.scatter_nd(data=c.var(0), indices=_positions(c), updates=c.var(2), mode=_mode(c))


def _mode(c: Call) -> str:
    return {"none": "update"}.get(c.text("reduction", "none"), c.text("reduction", "none"))


def one_hot(c: Call) -> Held:
    """``on`` at each index along a new axis, ``off`` elsewhere; an index out of range is off everywhere."""
    indices, depth = c.var(0), c.need(1, "the depth")
    off_on = c.need(2, "the values")
    axis, count = c.int("axis", -1), int(depth.reshape(()))
    rank = rank_of(indices) + 1
    axis = axis % rank
    if dtype_of(indices).kind == "f":
        indices = c.mb.cast(x=indices, dtype="int32")
    wrapped = c.mb.add(x=indices, y=np.int32(count))
    places = c.mb.select(cond=c.mb.less(x=indices, y=np.int32(0)), a=wrapped, b=indices)
    steps = np.arange(count, dtype=np.int32).reshape([-1 if a == axis else 1 for a in range(rank)])
    hit = c.mb.equal(x=c.mb.expand_dims(x=places, axes=[axis]), y=steps)
    off, on = (constant(part.reshape(())) for part in off_on)
    return chosen(c, hit, on, off)
