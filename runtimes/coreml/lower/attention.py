"""Attention: ``softmax(q k^T * scale + mask) v``, as MIL's own operator where it has the same meaning.

Axis letters: B batch, H heads, L queries, S keys, E width of a head.
"""

from __future__ import annotations

import numpy as np

from .call import (
    Call,
    Given,
    Held,
    Unsupported,
    Var,
    constant,
    dtype_of,
    is_bool,
    known,
    like,
    rank_of,
    shape_of,
    size,
    variable,
)
from .elementwise import chosen
from .sizes import reshape


def attention(c: Call) -> Held:
    """Attend with queries of (B, H, L, E), or of (B, L, H * E) with the number of heads given."""
    if any(c.held(i) is not None for i in range(4, c.count())) or any(c.asks(i) for i in range(1, 4)):
        message = "attention with a cache, or with its weights as outputs"
        raise Unsupported(message)
    merged = rank_of(c.held(0)) == 3
    q = _heads(c, c.var(0), c.int("q_num_heads"))
    k, v = (_heads(c, c.var(i), c.int("kv_num_heads")) for i in (1, 2))
    k, v = (_repeated(c, x, size(q, 1, "the heads")) for x in (k, v))
    answer = _attend(c, q, k, v)
    if not merged:
        return answer
    b, heads, length, width = shape_of(answer)
    return reshape(c, c.mb.transpose(x=answer, perm=[0, 2, 1, 3]), [b, length, heads * width])


def _heads(c: Call, x: Var, heads: int) -> Var:
    """Split (B, L, H * E) into (B, H, L, E)."""
    if rank_of(x) == 4:
        return x
    b, length, _ = shape_of(x)
    split = reshape(c, x, [b, length, heads, size(x, 2, "the width") // heads])
    return c.mb.transpose(x=split, perm=[0, 2, 1, 3])


def _repeated(c: Call, x: Var, heads: int) -> Var:
    """Give every query head keys and values of its own, where groups share them."""
    have = size(x, 1, "the heads")
    if have == heads:
        return x
    b, _, length, width = shape_of(x)
    wide = c.mb.tile(x=c.mb.expand_dims(x=x, axes=[2]), reps=[1, 1, heads // have, 1, 1])
    return reshape(c, wide, [b, heads, length, width])


def _attend(c: Call, q: Var, k: Var, v: Var) -> Var:
    width = size(q, 3, "the width of a head")
    scale, cap = c.float("scale", 0.0) or width**-0.5, c.float("softcap", 0.0)
    mask = _mask(c, q, k)
    own = c.scope.system != "iOS17" and not cap and abs(scale * width**0.5 - 1) < 1e-6
    if own and (mask is None or rank_of(mask) == 2):
        return c.mb.scaled_dot_product_attention(
            query=q, key=k, value=v, **({} if mask is None else {"attn_mask": variable(mask)})
        )
    scores = c.mb.matmul(x=c.mb.mul(x=q, y=like(q, scale)), y=k, transpose_y=True)
    if cap:
        scores = c.mb.mul(x=c.mb.tanh(x=c.mb.mul(x=scores, y=like(q, 1 / cap))), y=like(q, cap))
    if mask is not None:
        scores = c.mb.add(x=scores, y=variable(mask))
    return c.mb.matmul(x=c.mb.softmax(x=scores, axis=-1), y=v)


def _mask(c: Call, q: Var, k: Var) -> Given:
    """Give what is added to the scores: the mask, and nothing from the future where that is asked for."""
    mask = c.held(3)
    if mask is not None:
        mask = _additive(c, mask, q)
    if not c.int("is_causal"):
        return mask
    rows, columns = size(q, 2, "the queries"), size(k, 2, "the keys")
    future = np.where(np.tril(np.ones((rows, columns), bool)), 0, _lowest(q)).astype(dtype_of(q))
    return future if mask is None else c.mb.add(x=variable(mask), y=future)


def _additive(c: Call, mask: Held, q: Var) -> Held:
    array = known(mask)
    if array is not None and array.dtype == bool:
        return np.where(array, 0, _lowest(q)).astype(dtype_of(q))
    if array is None and is_bool(mask):
        return chosen(c, mask, constant(like(q, 0)), constant(like(q, _lowest(q))))
    return mask


def _lowest(q: Var) -> float:
    """Give a number so low that its exponential is nothing, and finite, so that sums stay numbers."""
    return -3e4 if dtype_of(q) == np.float16 else -1e30
