"""Means over regions of as equal size as possible, `adaptive_avg_pool2d`, as every engine has them.

Region i of n on m pixels is floor(i m / n) to ceil((i + 1) m / n). Where n divides m, this is a pooling with
a fixed window. Else regions overlap or repeat pixels, and torch's exporter gathers each of them into a tensor
of six dimensions, which Core ML does not have. But the mean over a rectangle is a mean over rows of means
over columns: with the matrix P (n, m), which has 1 / length on each region, pool(X) = P X Q^T. Exact.

Axis letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Size = tuple[int, int]


def even_pool(x: Tensor, target: Size) -> Tensor:
    """(B, C, H, W) of a size that is known while tracing, to (B, C, H', W')."""
    size = (x.shape[-2], x.shape[-1])
    return x if size == target else EvenPool(size, target).fused()(x)


class EvenPool(nn.Module):
    """Average over regions of as equal size as possible."""

    def __init__(self, size: Size, target: Size) -> None:
        super().__init__()
        self.size, self.target = size, target

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        return nn.functional.adaptive_avg_pool2d(x, self.target)

    def fused(self) -> nn.Module:
        """Write it as a pooling of fixed regions where they are equal, else as two fixed matrices. Exact."""
        (height, width), (rows, columns) = self.size, self.target
        if height % rows == 0 and width % columns == 0:
            return nn.AvgPool2d((height // rows, width // columns)).eval()
        return MatrixPool(mean_matrix(height, rows), mean_matrix(width, columns)).eval()


class MatrixPool(nn.Module):
    """P X Q^T for fixed P (H', H) and Q (W', W)."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        return self.rows.to(x.dtype) @ (x @ self.columns.to(x.dtype))


def mean_matrix(size: int, to: int) -> Tensor:
    """Give P (n, m) in float64: the means over n regions of m pixels."""
    made = [[0.0] * size for _ in range(to)]
    for i, row in enumerate(made):
        first, last = i * size // to, -(-(i + 1) * size // to)
        row[first:last] = [1 / (last - first)] * (last - first)
    # From a list, so that tracing meets a constant and not how it is made.
    return torch.tensor(made, dtype=torch.float64)
