"""Operators on single values, with numpy's broadcasting: arithmetic, comparison, logic, rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from ..context import Context


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """Divide; the quotient of integers is cut towards zero when it becomes an integer again."""
    return torch.true_divide(x, y)


def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """Divide and round towards minus infinity."""
    return torch.floor_divide(x, y)


def mod(x: Tensor, y: Tensor) -> Tensor:
    """Give the remainder, which has the sign of the divisor."""
    return torch.remainder(x, y)


def power(x: Tensor, y: Tensor) -> Tensor:
    """Raise to a power; integers to a negative one as floats, which are cut."""
    floats = x.is_floating_point() or y.is_floating_point()
    return torch.pow(x, y) if floats else torch.pow(x.double(), y.double())


def add(x: Tensor, y: Tensor) -> Tensor:
    """X + y."""
    return x + y


def sub(x: Tensor, y: Tensor) -> Tensor:
    """X - y."""
    return x - y


def mul(x: Tensor, y: Tensor) -> Tensor:
    """X * y."""
    return x * y


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger one."""
    return torch.maximum(x, y)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller one."""
    return torch.minimum(x, y)


def equal(x: Tensor, y: Tensor) -> Tensor:
    """X == y."""
    return x == y


def not_equal(x: Tensor, y: Tensor) -> Tensor:
    """X != y."""
    return x != y


def less(x: Tensor, y: Tensor) -> Tensor:
    """X < y."""
    return x < y


def less_equal(x: Tensor, y: Tensor) -> Tensor:
    """X <= y."""
    return x <= y


def greater(x: Tensor, y: Tensor) -> Tensor:
    """X > y."""
    return x > y


def greater_equal(x: Tensor, y: Tensor) -> Tensor:
    """X >= y."""
    return x >= y


def logical_and(x: Tensor, y: Tensor) -> Tensor:
    """Both."""
    return torch.logical_and(x, y)


def logical_or(x: Tensor, y: Tensor) -> Tensor:
    """Either or both."""
    return torch.logical_or(x, y)


def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    """Either but not both."""
    return torch.logical_xor(x, y)


def logical_not(x: Tensor) -> Tensor:
    """The opposite."""
    return torch.logical_not(x)


def absolute(x: Tensor) -> Tensor:
    """|x|."""
    return x.abs()


def acos(x: Tensor) -> Tensor:
    """Inverse cosine."""
    return x.acos()


def asin(x: Tensor) -> Tensor:
    """Inverse sine."""
    return x.asin()


def atan(x: Tensor) -> Tensor:
    """Inverse tangent."""
    return x.atan()


def atanh(x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""
    return x.atanh()


def ceil(x: Tensor) -> Tensor:
    """Round up."""
    return x.ceil()


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return x.cos()


def cosh(x: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return x.cosh()


def erf(x: Tensor) -> Tensor:
    """Gauss's error function."""
    return x.erf()


def exp(x: Tensor) -> Tensor:
    """e^x."""
    return x.exp()


def exp2(x: Tensor) -> Tensor:
    """2^x."""
    return x.exp2() if x.is_floating_point() else torch.exp2(x.double())


def floor(x: Tensor) -> Tensor:
    """Round down."""
    return x.floor()


def round_(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties to even."""
    return x.round()


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return x.sign()


def sin(x: Tensor) -> Tensor:
    """Sine."""
    return x.sin()


def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return x.sinh()


def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return x.sqrt()


def square(x: Tensor) -> Tensor:
    """X * x."""
    return x * x


def tan(x: Tensor) -> Tensor:
    """Tangent."""
    return x.tan()


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return x.tanh()


def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(x + epsilon)


def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return 1 / torch.sqrt(x + epsilon)


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Bound from below by alpha and from above by beta."""
    return x.clamp(alpha, beta)


def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    """Bound from below by alpha."""
    return torch.maximum(x, alpha.to(x.dtype))


def cast(run: Context, x: Tensor, dtype: str) -> Tensor:
    """Change the type: floats are cut to integers (wrapped to the width), and are true when not zero."""
    wanted = run.outputs[0].dtype
    if wanted == "bool":
        return x != 0
    if wanted.startswith("float"):
        return x.float()
    bits, signed = _WIDTHS[wanted]
    whole = x.long() if bits == _ALL_BITS else x.long() & (2**bits - 1)
    return (
        torch.where(whole >= 2 ** (bits - 1), whole - 2**bits, whole)
        if signed and bits < _ALL_BITS
        else whole
    )


_ALL_BITS = 32
_WIDTHS = {
    "int8": (8, True),
    "uint8": (8, False),
    "int16": (16, True),
    "uint16": (16, False),
    "int32": (32, True),
}
