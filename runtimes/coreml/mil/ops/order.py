"""Sorting, choosing and counting."""

from __future__ import annotations

import torch
from torch import Tensor

from ..context import Context


def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Give the order along an axis; equal values keep theirs."""
    return x.argsort(dim=axis, descending=not ascending, stable=True)


def topk(
    run: Context,
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, ...]:
    """Give the first k values of the sorted order and where they stood; k of -1 takes all."""
    places = argsort(x, axis, ascending).narrow(axis, 0, x.shape[axis] if k == -1 else k)
    values = torch.take_along_dim(x, places, axis)
    return (values, places) if len(run.outputs) > 1 else values


def non_zero(x: Tensor) -> Tensor:
    """Give the positions of all values that are not zero, one row each."""
    return x.nonzero()


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Take from a where true, else from b."""
    return torch.where(cond, a, b)


def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Sum up along an axis, from either end; exclusive sums leave the value itself out."""
    turned = x.flip(axis) if reverse else x
    sums = turned.cumsum(axis)
    if exclusive:
        zero = torch.zeros_like(sums.narrow(axis, 0, 1))
        sums = torch.cat((zero, sums.narrow(axis, 0, x.shape[axis] - 1)), axis)
    return sums.flip(axis) if reverse else sums
