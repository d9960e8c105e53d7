"""Reductions over some axes, or over all where none are named."""

from __future__ import annotations

import torch
from torch import Tensor

from ..signature import Ints


def reduce_sum(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Sum."""
    return x.sum(_all(x, axes), keepdim=keep_dims)


def reduce_mean(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Mean; that of integers is cut towards zero."""
    return x.float().mean(_all(x, axes), keepdim=keep_dims)


def reduce_max(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Largest value."""
    return x.amax(_all(x, axes), keepdim=keep_dims)


def reduce_min(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Smallest value."""
    return x.amin(_all(x, axes), keepdim=keep_dims)


def reduce_prod(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Product."""
    for axis in sorted((axis % max(x.ndim, 1) for axis in _all(x, axes)), reverse=True):
        x = x.prod(axis, keepdim=keep_dims)
    return x


def reduce_l1_norm(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Sum of absolute values."""
    return reduce_sum(x.abs(), axes, keep_dims)


def reduce_l2_norm(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Root of the sum of squares."""
    return reduce_sum((x * x).float(), axes, keep_dims).sqrt()


def reduce_log_sum(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Logarithm of the sum."""
    return reduce_sum(x, axes, keep_dims).float().log()


def reduce_log_sum_exp(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Logarithm of the sum of e^x, without overflow."""
    return torch.logsumexp(x.float(), _all(x, axes), keepdim=keep_dims)


def reduce_sum_square(x: Tensor, axes: Ints = (), keep_dims: bool = False) -> Tensor:
    """Sum of squares."""
    return reduce_sum(x * x, axes, keep_dims)


def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Place of the largest value, the first one of equals."""
    return _first(x, x.amax(axis, keepdim=True), axis, keep_dims=keep_dims)


def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Place of the smallest value, the first one of equals."""
    return _first(x, x.amin(axis, keepdim=True), axis, keep_dims=keep_dims)


def _first(x: Tensor, wanted: Tensor, axis: int, *, keep_dims: bool) -> Tensor:
    return (x == wanted).byte().argmax(axis, keepdim=keep_dims)


def _all(x: Tensor, axes: Ints) -> Ints:
    return axes or tuple(range(x.ndim))
