"""Shapes with free dimensions: constants where one unknown can be worked out, else vectors of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .call import Call, Held, Unsupported, Var, fixed, known, shape_of
from .folded import MOST_DIMENSIONS, Folded


def reshape(c: Call, x: Held, dims: Sequence[Any], *, source: tuple[Var, ...] = ()) -> Held:
    """Reshape to sizes and symbols; in too many dimensions nothing moves yet.

    Args:
        c: The node.
        x: What is reshaped.
        dims: Sizes, and expressions of the symbols of ``x`` or ``source``.
        source: Further tensors whose shapes know the symbols.
    """
    if len(dims) > MOST_DIMENSIONS:
        return Folded(x.var if isinstance(x, Folded) else x, tuple(dims))
    x = x.var if isinstance(x, Folded) else x
    if list(dims) == list(shape_of(x)):
        return x
    free = [axis for axis, dim in enumerate(dims) if not fixed(dim)]
    if len(free) > 1:
        return c.mb.reshape(x=x, shape=vector(c, dims, (x, *source)))
    shape = np.array([-1 if axis in free else int(dim) for axis, dim in enumerate(dims)], np.int32)
    return c.mb.reshape(x=x, shape=shape)


def entries(held: Held) -> list[Any] | None:
    """Read a vector as sizes and symbols; None when nothing is known of it."""
    array = known(held)
    if array is not None:
        return [int(dim) for dim in array]
    return None if held.sym_val is None else [int(d) if fixed(d) else d for d in held.sym_val]


def vector(c: Call, dims: Sequence[Any], sources: Sequence[Var]) -> Var:
    """Make a vector of the program that holds a shape.

    Args:
        c: The node.
        dims: Sizes, and expressions of symbols.
        sources: Tensors whose shapes know the symbols.

    Raises:
        Unsupported: If a symbol is in none of them, or an expression is no product.
    """
    if all(fixed(dim) for dim in dims):
        return np.array([int(dim) for dim in dims], np.int32)
    parts = [np.array([int(d)], np.int32) if fixed(d) else _expression(c, d, sources) for d in dims]
    return c.mb.concat(values=parts, axis=0) if len(parts) > 1 else parts[0]


def _expression(c: Call, dim: Any, sources: Sequence[Var]) -> Var:
    """Compute a product of symbols and whole numbers as a vector of one element."""
    answer: Var = None
    factor = 1
    for part in dim.as_ordered_factors():
        if part.is_Integer:
            factor *= int(part)
        elif part.is_Symbol:
            one = _symbol(c, part, sources)
            answer = one if answer is None else c.mb.mul(x=answer, y=one)
        else:
            raise Unsupported(f"a shape that is computed as {dim}")
    return answer if factor == 1 else c.mb.mul(x=answer, y=np.array([factor], np.int32))


def _symbol(c: Call, symbol: Any, sources: Sequence[Var]) -> Var:
    for source in sources:
        for axis, dim in enumerate(shape_of(source)):
            if dim == symbol:
                sizes = c.mb.shape(x=source)
                return c.mb.slice_by_index(x=sizes, begin=[axis], end=[axis + 1])
    raise Unsupported(f"a shape with the unknown size {symbol}")
