"""Operators on pairs and single numbers: arithmetic, comparison, logic, rounding, trigonometry."""

from __future__ import annotations

from functools import reduce

import numpy as np

from .call import (
    Call,
    Held,
    Lower,
    Unsupported,
    Var,
    dtype_of,
    is_bool,
    is_float,
    like,
    narrow,
    rank_of,
    shape_of,
    variable,
)


def pair(name: str) -> Lower:
    """Lower an operator of two numbers that MIL has under ``name``."""

    def lower(c: Call) -> Held:
        return combine(c, name, *operands(c))

    return lower


def many(name: str) -> Lower:
    """Lower an operator of any number of inputs as a chain of pairs."""

    def lower(c: Call) -> Held:
        values = [_number(c.var(i)) for i in range(c.count())]
        return reduce(lambda x, y: combine(c, name, x, y), values)

    return lower


def single(name: str) -> Lower:
    """Lower an operator of one float that MIL has under ``name``."""

    def lower(c: Call) -> Held:
        return getattr(c.mb, name)(x=c.var(0))

    return lower


def operands(c: Call) -> tuple[Var, Var]:
    """Give both inputs as numbers of one type, truth values as 0 and 1."""
    return _number(c.var(0)), _number(c.var(1))


def combine(c: Call, name: str, x: Var, y: Var) -> Var:
    """Apply an operator of two numbers."""
    return getattr(c.mb, name)(x=x, y=y)


def _number(var: Var) -> Var:
    from ..sdk import builder

    return builder().cast(x=var, dtype="int32") if is_bool(var) else var


def add_all(c: Call) -> Held:
    """Sum any number of tensors."""
    return many("add")(c)


def mean(c: Call) -> Held:
    """Mean of any number of tensors."""
    total = many("add")(c)
    return c.mb.mul(x=total, y=like(total, 1 / c.count()))


def divide(c: Call) -> Held:
    """Divide; whole numbers are cut towards zero, where MIL rounds down."""
    x, y = operands(c)
    if is_float(x):
        return c.mb.real_div(x=x, y=y)
    if all(v.sym_val is not None for v in (x, y)) and any(v.val is None for v in (x, y)):
        return c.mb.floor_div(x=x, y=y)  # free sizes, which are never negative
    quotient = c.mb.floor_div(x=c.mb.abs(x=x), y=c.mb.abs(x=y))
    return c.mb.mul(x=quotient, y=c.mb.mul(x=c.mb.sign(x=x), y=c.mb.sign(x=y)))


def modulo(c: Call) -> Held:
    """Remainder: with the sign of the divisor, or with ``fmod`` that of the dividend."""
    x, y = operands(c)
    if not c.int("fmod"):
        return c.mb.mod(x=x, y=y)
    return c.mb.mul(x=c.mb.mod(x=c.mb.abs(x=x), y=c.mb.abs(x=y)), y=c.mb.sign(x=x))


def power(c: Call) -> Held:
    """Raise to a power; the exponent takes the type of the base."""
    x, y = c.var(0), c.array(1)
    if y is not None and y.size == 1 and float(y.reshape(())) == 2:
        return c.mb.mul(x=x, y=x)
    if y is not None and y.size == 1 and float(y.reshape(())) == 0.5:
        return c.mb.sqrt(x=x)
    exponent = variable(y.astype(dtype_of(x))) if y is not None else c.var(1)
    if dtype_of(exponent) != dtype_of(x):
        exponent = c.mb.cast(x=exponent, dtype=word(dtype_of(x)))
    return c.mb.pow(x=x, y=exponent)


def negate(c: Call) -> Held:
    """Change the sign."""
    x = c.var(0)
    return c.mb.mul(x=x, y=like(x, -1))


def reciprocal(c: Call) -> Held:
    """One divided by x; MIL's own ``inverse`` adds an epsilon."""
    x = c.var(0)
    return c.mb.real_div(x=like(x, 1), y=x)


def logarithm(c: Call) -> Held:
    """Natural logarithm, without the epsilon that MIL would add."""
    x = c.var(0)
    return c.mb.log(x=x, epsilon=like(x, 0))


def area(name: str) -> Lower:
    """Lower asinh and acosh: ``log(|x| + sqrt(x**2 + 1))`` with the sign, ``log(x + sqrt(x**2 - 1))``."""

    def lower(c: Call) -> Held:
        x = c.var(0)
        size, one = (c.mb.abs(x=x), 1) if name == "asinh" else (x, -1)
        root = c.mb.sqrt(x=c.mb.add(x=c.mb.mul(x=size, y=size), y=like(x, one)))
        log = c.mb.log(x=c.mb.add(x=size, y=root), epsilon=like(x, 0))
        return c.mb.mul(x=log, y=c.mb.sign(x=x)) if name == "asinh" else log

    return lower


def is_nan(c: Call) -> Held:
    """Tell what is not a number: it alone differs from itself."""
    x = c.var(0)
    return c.mb.not_equal(x=x, y=x)


def chosen(c: Call, condition: Var, a: Var, b: Var) -> Var:
    """Choose by a condition, to whose shape MIL does not broadcast what is chosen from."""
    if is_bool(a):
        whole = chosen(c, condition, _number(a), _number(b))
        return c.mb.not_equal(x=whole, y=np.int32(0))
    if not _covers(condition, a, b):
        zeros = c.mb.mul(x=c.mb.cast(x=condition, dtype=word(dtype_of(a))), y=like(a, 0))
        a = c.mb.add(x=zeros, y=a)
    return c.mb.select(cond=condition, a=a, b=b)


def _covers(condition: Var, a: Var, b: Var) -> bool:
    """Say whether the shapes of a and b alone broadcast to the whole answer."""
    rank = max(rank_of(a), rank_of(b))
    if rank < rank_of(condition):
        return False
    padded = [(1,) * (rank - rank_of(v)) + shape_of(v) for v in (condition, a, b)]
    return all(have == 1 or have in (left, right) for have, left, right in zip(*padded, strict=True))


def cast(c: Call) -> Held:
    """Change the type of numbers; whole numbers have 32 bits here."""
    return to_type(c, c.var(0), _onnx_type(c.int("to")))


def cast_like(c: Call) -> Held:
    """Change the type of numbers to that of another tensor."""
    return to_type(c, c.var(0), dtype_of(c.var(1)))


def to_type(c: Call, x: Var, wanted: np.dtype[np.generic]) -> Var:
    """Bring a variable to a type that MIL has in the place of ``wanted``."""
    wanted = narrow(np.zeros(1, wanted)).dtype
    have = dtype_of(x)
    if wanted == have:
        return x
    if wanted.kind == "b":
        return c.mb.not_equal(x=x, y=like(x, 0))
    return c.mb.cast(x=x, dtype=word(wanted))


def word(dtype: np.dtype[np.generic]) -> str:
    """Say a type as MIL does."""
    return {"float32": "fp32", "float16": "fp16", "int32": "int32", "bool": "bool"}[dtype.name]


def _onnx_type(number: int) -> np.dtype[np.generic]:
    import onnx_ir as ir

    kind = ir.DataType(number)
    try:
        found = np.dtype(kind.numpy())
    except TypeError as error:
        raise Unsupported(f"there is no type {kind.name}") from error
    if found.kind not in "fiub" or found.name not in _KNOWN:
        raise Unsupported(f"there is no type {kind.name}")
    return found


_KNOWN = frozenset(
    {"float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool", "uint16"}
)
