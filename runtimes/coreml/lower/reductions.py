"""Sums, means and extremes over axes; places of extremes; running sums; the largest few."""

from __future__ import annotations

import math

import numpy as np

from .call import (
    Call,
    Held,
    Lower,
    Unsupported,
    Var,
    fixed,
    is_bool,
    is_float,
    like,
    rank_of,
    shape_of,
)
from .folded import Folded, merged
from .sizes import reshape, vector


def reduction(name: str) -> Lower:
    """Lower a reduction over axes that MIL has under ``name``."""

    def lower(c: Call) -> Held:
        axes, keep = _axes(c), bool(c.int("keepdims", 1))
        if isinstance(many := c.held(0), Folded) and axes:
            return _of_many(c, name, many, axes, keep=keep)
        x = c.var(0)
        if axes == []:
            return _alone(c, name, x)
        number = c.mb.cast(x=x, dtype="int32") if is_bool(x) else x
        answer = getattr(c.mb, name)(x=number, axes=axes, keep_dims=keep)
        return c.mb.cast(x=answer, dtype="bool") if is_bool(x) else answer

    return lower


def _of_many(c: Call, name: str, many: Folded, axes: list[int], *, keep: bool) -> Held:
    """Reduce a tensor of more than five dimensions."""
    x, gone, kept = merged(c, many, axes)
    answer = getattr(c.mb, name)(x=x, axes=gone, keep_dims=False)
    removed = {axis % len(kept) for axis in axes}
    dims = kept if keep else [dim for axis, dim in enumerate(kept) if axis not in removed]
    return reshape(c, answer, dims, source=(x,))


def log_sum(c: Call) -> Held:
    """Logarithm of a sum, without the epsilon that MIL would add."""
    total = reduction("reduce_sum")(c)
    return c.mb.log(x=total, epsilon=like(total, 0))


def log_sum_exp(c: Call) -> Held:
    """``max + log(sum(exp(x - max)))``."""
    x, axes, keep = c.var(0), _axes(c), bool(c.int("keepdims", 1))
    if axes == []:
        return c.mb.identity(x=x)
    top = c.mb.reduce_max(x=x, axes=axes, keep_dims=True)
    total = c.mb.reduce_sum(x=c.mb.exp(x=c.mb.sub(x=x, y=top)), axes=axes, keep_dims=True)
    answer = c.mb.add(x=top, y=c.mb.log(x=total, epsilon=like(x, 0)))
    return answer if keep else c.mb.squeeze(x=answer, axes=axes)


def _axes(c: Call) -> list[int]:
    """Give the axes: an attribute or an input; all where neither is given, none where that is asked for."""
    axes = c.ints("axes")
    if axes is None and c.held(1) is not None:
        axes = [int(axis) for axis in c.need(1, "the axes").ravel()]
    if axes:
        return axes
    return [] if c.int("noop_with_empty_axes") else list(range(rank_of(c.held(0))))


def _alone(c: Call, name: str, x: Var) -> Var:
    """Reduce each element by itself."""
    if name in ("reduce_l1_norm", "reduce_l2_norm"):
        return c.mb.abs(x=x)
    return c.mb.mul(x=x, y=x) if name == "reduce_sum_square" else c.mb.identity(x=x)


def place(name: str) -> Lower:
    """Lower ArgMax or ArgMin."""

    def lower(c: Call) -> Held:
        if c.int("select_last_index"):
            message = "the last of equal extremes"
            raise Unsupported(message)
        x, axis = c.var(0), c.int("axis", 0)
        return getattr(c.mb, name)(x=x, axis=axis, keep_dims=bool(c.int("keepdims", 1)))

    return lower


def top_k(c: Call) -> Held:
    """The ``k`` largest or smallest along an axis, and their places."""
    x, k = c.var(0), c.need(1, "the number of elements")
    values, places = c.mb.topk(
        x=x, k=int(k.reshape(())), axis=c.int("axis", -1), ascending=not c.int("largest", 1), sort=True
    )
    return values, places


def running_sum(c: Call) -> Held:
    """Sum of all elements up to each one along an axis."""
    axis = int(c.need(1, "the axis").reshape(()))
    x = c.var(0)
    return c.mb.cumsum(
        x=x, axis=axis % rank_of(x), exclusive=bool(c.int("exclusive")), reverse=bool(c.int("reverse"))
    )


def spatial(name: str) -> Lower:
    """Lower a global pool: a reduction over all axes after the channels."""

    def lower(c: Call) -> Held:
        x = c.var(0)
        return getattr(c.mb, name)(x=x, axes=list(range(2, rank_of(x))), keep_dims=True)

    return lower


def count(c: Call) -> Held:
    """Number of elements: a constant where all sizes are known."""
    x = c.held(0)
    total = math.prod(shape_of(x))
    if fixed(total):
        return np.array(int(total), np.int64)
    return c.mb.squeeze(x=vector(c, [total], (x,)), axes=[0])


def sign(c: Call) -> Held:
    """-1, 0 or 1."""
    x = c.var(0)
    return c.mb.sign(x=x)


def rounded(name: str) -> Lower:
    """Lower a rounding; whole numbers stay."""

    def lower(c: Call) -> Held:
        x = c.var(0)
        return getattr(c.mb, name)(x=x) if is_float(x) else c.mb.identity(x=x)

    return lower
