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
    if max(c.int(name, -1) for name in ("left_window_size", "right_window_size")) >= 0:
        message = "attention within a window"
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
    allowed = _allowed(c, q, k)
    mask = _added(c, allowed, q)
    own = c.scope.system != "iOS17" and not cap and abs(scale * width**0.5 - 1) < 1e-6
    if own and (mask is None or rank_of(mask) == 2):
        masked = {} if mask is None else {"attn_mask": variable(mask)}
        return _without(c, allowed, c.mb.scaled_dot_product_attention(query=q, key=k, value=v, **masked))
    scores = c.mb.matmul(x=c.mb.mul(x=q, y=like(q, scale)), y=k, transpose_y=True)
    if cap:
        scores = c.mb.mul(x=c.mb.tanh(x=c.mb.mul(x=scores, y=like(q, 1 / cap))), y=like(q, cap))
    if mask is not None:
        scores = c.mb.add(x=scores, y=variable(mask))
    return _without(c, allowed, c.mb.matmul(x=c.mb.softmax(x=scores, axis=-1), y=v))


def _allowed(c: Call, q: Var, k: Var) -> Given:
    """Give which keys a query may see, as truth values; None where nothing forbids one."""
    mask = c.held(3)
    allowed = mask if mask is not None and _is_truth(mask) else None
    if not c.int("is_causal"):
        return allowed
    past = np.tril(np.ones((size(q, 2, "the queries"), size(k, 2, "the keys")), bool))
    if allowed is None:
        return past
    array = known(allowed)
    return array & past if array is not None else c.mb.logical_and(x=allowed, y=past)


def _added(c: Call, allowed: Given, q: Var) -> Given:
    """Give what is added to the scores: the mask, and next to nothing left of what is not allowed."""
    mask = c.held(3)
    if mask is not None and _is_truth(mask):
        mask = None
    if allowed is None:
        return mask
    array = known(allowed)
    forbidden: Held = (
        np.where(array, 0, _lowest(q)).astype(dtype_of(q))
        if array is not None
        else chosen(c, allowed, constant(like(q, 0)), constant(like(q, _lowest(q))))
    )
    return forbidden if mask is None else c.mb.add(x=variable(mask), y=variable(forbidden))


def _without(c: Call, allowed: Given, answer: Var) -> Var:
    """Give nothing to a query that may see no key."""
    if allowed is None:
        return answer
    array = known(allowed)
    if array is None:
        seen = c.mb.reduce_max(x=c.mb.cast(x=allowed, dtype="int32"), axes=[-1], keep_dims=True)
        word = "fp16" if dtype_of(answer) == np.float16 else "fp32"
        return c.mb.mul(x=answer, y=c.mb.cast(x=seen, dtype=word))
    some = array.any(-1, keepdims=True)
    return answer if some.all() else c.mb.mul(x=answer, y=some.astype(dtype_of(answer)))


def _is_truth(mask: Held) -> bool:
    array = known(mask)
    return array.dtype == bool if array is not None else is_bool(mask)


def _lowest(q: Var) -> float:
    """Give a number so low that its exponential is nothing, and finite, so that sums stay numbers."""
    return -3e4 if dtype_of(q) == np.float16 else -1e30
