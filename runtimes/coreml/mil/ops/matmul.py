"""Matrix products.

Axis letters: M rows, N columns, K the summed axis; ``...`` batches, broadcast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signature import Tensors


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply x (..., K) by the transpose of weights (N, K) and add a bias (N,)."""
    x, weight = _alike(x, weight)
    if not x.is_floating_point():
        return x @ weight.T + (0 if bias is None else bias)
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Multiply x (..., M, K) by y (..., K, N), each first transposed where told."""
    left = x.mT if transpose_x and x.ndim > 1 else x
    right = y.mT if transpose_y and y.ndim > 1 else y
    return torch.matmul(*_alike(left, right))


def einsum(values: Tensors, equation: str) -> Tensor:
    """Sum products as the equation says; axes of size 1 are broadcast."""
    return torch.einsum(equation, *values)


def _alike(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Bring integers and floats, which iOS17 multiplies with each other, to one type."""
    kind = torch.promote_types(left.dtype, right.dtype)
    return left.to(kind), right.to(kind)
