"""Every result as its declaration says: its kind, its shape, and its rounding.

Rounding: an operator is computed in float32, sums included, and its result is rounded to the nearest fp16
(ties to even; beyond 65504 to infinity) where the program declares fp16. That is what a kernel with a
float32 accumulator gives. Apple does not say how its units accumulate, so a longer error chain than this one
is possible there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .values import Declared, Value


def settle(value: Value, told: Declared, *, rounding: bool) -> Value:
    """Bring a result to its declared type.

    Raises:
        ValueError: If its kind or shape is another one.
    """
    if not isinstance(value, Tensor):
        return value
    if told.dtype in ("list", "dict", "string"):
        message = f"expected a {told.dtype} as the program declares, got a tensor"
        raise ValueError(message)
    if not fits(tuple(value.shape), told.shape):
        shape = ", ".join("?" if size is None else str(size) for size in told.shape or ())
        message = f"expected a result of shape ({shape}) as the program declares, got {tuple(value.shape)}"
        raise ValueError(message)
    if told.dtype.startswith("float"):
        value = value if value.dtype == torch.float32 else value.float()
        return value.half().float() if told.half and rounding else value
    return value.to(torch.bool if told.dtype == "bool" else torch.int32)


def fits(shape: tuple[int, ...], told: tuple[int | None, ...] | None) -> bool:
    """Say whether a shape is one of those declared; a scalar and one value are the same to Core ML."""
    if told is None:
        return True
    if len(shape) != len(told):
        return {shape, told} == {(), (1,)}
    return all(wanted is None or size == wanted for size, wanted in zip(shape, told, strict=True))
