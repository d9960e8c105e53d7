"""Matrix products: MatMul, Gemm and Einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .call import (
    Call,
    Held,
    Unsupported,
    Var,
    like,
    rank_of,
    shape_of,
    variable,
)
from .sizes import reshape
from .weight import Weight

_LINEAR_RANK = 3
"""Most dimensions that MIL's ``linear`` takes."""


def matmul(c: Call) -> Held:
    """Multiply the last two axes, broadcasting the others."""
    x, y = c.held(0), c.held(1)
    if isinstance(y, Weight) and y.data.ndim == 2 and 1 <= rank_of(x) <= _LINEAR_RANK:
        return c.mb.linear(x=variable(x), weight=y.transposed((1, 0)).var())
    return product(c, variable(x), variable(y))


def product(c: Call, x: Var, y: Var) -> Var:
    """Multiply two variables as numpy does, also vectors and whole numbers."""
    narrow_x, narrow_y = rank_of(x) == 1, rank_of(y) == 1
    if narrow_x:
        x = c.mb.expand_dims(x=x, axes=[0])
    if narrow_y:
        y = c.mb.expand_dims(x=y, axes=[1])
    answer = c.mb.matmul(x=x, y=y)
    axes = [-2] * narrow_x + [-1] * narrow_y
    return c.mb.squeeze(x=answer, axes=axes) if axes else answer


def gemm(c: Call) -> Held:
    """``alpha * a @ b + beta * c`` with either matrix transposed."""
    a, b = c.var(0), c.held(1)
    alpha, beta = c.float("alpha", 1.0), c.float("beta", 1.0)
    if c.int("transA"):
        a = c.mb.transpose(x=a, perm=[1, 0])
    if isinstance(b, np.ndarray | Weight) and alpha == 1:
        return _linear(c, a, b, beta)
    answer = c.mb.matmul(x=a, y=variable(b), transpose_y=bool(c.int("transB")))
    if alpha != 1:
        answer = c.mb.mul(x=answer, y=like(answer, alpha))
    return _added(c, answer, beta)


def _linear(c: Call, a: Var, b: Held, beta: float) -> Var:
    """Use MIL's own layer, whose weight has the outputs first."""
    weight = b if c.int("transB") else _turned(b)
    out, bias = int(weight.shape[0]), c.array(2)
    if c.held(2) is None:
        return c.mb.linear(x=a, weight=variable(weight))
    if (bias is not None and bias.size in (1, out) and bias.ndim <= 1) or _is_row(bias, out):
        assert bias is not None
        whole = np.broadcast_to(bias.reshape(-1), (out,)) * bias.dtype.type(beta)
        return c.mb.linear(x=a, weight=variable(weight), bias=np.ascontiguousarray(whole))
    return _added(c, c.mb.linear(x=a, weight=variable(weight)), beta)


def _turned(b: Held) -> Held:
    return b.transposed((1, 0)) if isinstance(b, Weight) else np.ascontiguousarray(b.T)


def _is_row(bias: np.ndarray | None, out: int) -> bool:
    return bias is not None and bias.shape == (1, out)


def _added(c: Call, answer: Var, beta: float) -> Var:
    if c.held(2) is None or beta == 0:
        return answer
    extra = c.var(2)
    return c.mb.add(x=answer, y=extra if beta == 1 else c.mb.mul(x=extra, y=like(extra, beta)))


def einsum(c: Call) -> Held:
    """Sum products over the letters that the answer lacks: one or two tensors, each letter once in each."""
    terms, answer = _equation(c)
    values = [variable(c.held(i)) for i in range(c.count())]
    if len(values) == 1:
        letters, value = _reduced(c, terms[0], values[0], set(answer))
        return _ordered(c, letters, value, answer)
    if len(values) != 2:
        message = "an einsum of more than two tensors"
        raise Unsupported(message)
    left, x = _reduced(c, terms[0], values[0], set(answer) | set(terms[1]))
    right, y = _reduced(c, terms[1], values[1], set(answer) | set(terms[0]))
    return _einsum_pair(c, left, x, right, y, answer)


def _equation(c: Call) -> tuple[list[str], str]:
    """Split an equation; letters of the answer default to those that occur once, in order."""
    text = c.text("equation").replace(" ", "")
    if "..." in text:
        message = "an einsum with an ellipsis"
        raise Unsupported(message)
    left, arrow, answer = text.partition("->")
    terms = left.split(",")
    if any(len(set(term)) != len(term) for term in terms):
        message = "an einsum along a diagonal"
        raise Unsupported(message)
    if not arrow:
        answer = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    return terms, answer


def _reduced(c: Call, letters: str, x: Var, kept: set[str]) -> tuple[str, Var]:
    """Sum over letters that nobody else has."""
    axes = [axis for axis, letter in enumerate(letters) if letter not in kept]
    if not axes:
        return letters, x
    return "".join(ch for ch in letters if ch in kept), c.mb.reduce_sum(x=x, axes=axes, keep_dims=False)


def _ordered(c: Call, letters: str, x: Var, wanted: str) -> Var:
    order = [letters.index(letter) for letter in wanted]
    return x if order == sorted(order) else c.mb.transpose(x=x, perm=order)


def _einsum_pair(c: Call, left: str, x: Var, right: str, y: Var, answer: str) -> Var:
    """Multiply as matrices: shared letters of the answer are the batch, other shared ones are summed."""
    batch = [ch for ch in left if ch in right and ch in answer]
    inner = [ch for ch in left if ch in right and ch not in answer]
    rows = [ch for ch in left if ch not in right]
    columns = [ch for ch in right if ch not in left]
    x = _ordered(c, left, x, "".join(batch + rows + inner))
    y = _ordered(c, right, y, "".join(batch + inner + columns))
    dims = dict(zip(batch + rows + inner, shape_of(x), strict=True))
    dims |= dict(zip(columns, shape_of(y)[len(batch) + len(inner) :], strict=True))
    lead = [dims[ch] for ch in batch]
    x = reshape(c, x, [*lead, _whole(dims, rows), _whole(dims, inner)])
    y = reshape(c, y, [*lead, _whole(dims, inner), _whole(dims, columns)])
    whole = reshape(c, c.mb.matmul(x=x, y=y), [dims[ch] for ch in batch + rows + columns], source=(x, y))
    return _ordered(c, "".join(batch + rows + columns), whole, answer)


def _whole(dims: dict[str, Any], letters: list[str]) -> Any:
    return math.prod(dims[letter] for letter in letters)
