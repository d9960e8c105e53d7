"""Pooling over regions of as equal size as possible, and the form that needs no region of its own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.export.quiet import quiet
from fourfold.models.even_pool import EvenPool, MatrixPool, even_pool

SIZES = [((16, 16), (10, 10)), ((8, 8), (2, 5)), ((7, 9), (7, 1)), ((16, 12), (8, 4)), ((3, 3), (3, 3))]


@pytest.mark.parametrize(("size", "target"), [*SIZES, ((3, 5), (7, 7)), ((1, 1), (2, 1))])
def test_pooling_is_the_mean_over_regions(size, target, folds_exactly) -> None:
    pool = EvenPool(size, target)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    (rows, columns), (height, width) = target, size
    expected = torch.empty(2, 3, *target, dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            top, bottom = i * height // rows, -(-(i + 1) * height // rows)
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            expected[:, :, i, j] = x[:, :, top:bottom, left:right].mean(dim=(2, 3))
    for answer in (pool(x), even_pool(x, target)):
        assert (answer - expected).abs().max() <= 1e-12 * expected.abs().max()
    folds_exactly(pool, x)


def test_equal_regions_become_a_plain_pooling() -> None:
    assert isinstance(EvenPool((16, 16), (8, 4)).fused(), nn.AvgPool2d)
    assert isinstance(EvenPool((16, 16), (8, 5)).fused(), MatrixPool)


class Seven(nn.Module):
    """A pooling as a network uses it."""

    def forward(self, x: Tensor) -> Tensor:
        return even_pool(x, (7, 7))


@pytest.mark.parametrize("side", [32, 28, 16, 7, 5])
def test_a_traced_pooling_has_a_free_batch_and_no_tensor_of_six_dimensions(side: int) -> None:
    shapes = ({0: torch.export.Dim("batch")},)
    with quiet():
        program = torch.export.export(Seven(), (torch.randn(2, 3, side, side),), dynamic_shapes=shapes)
        nodes = program.run_decompositions().graph.nodes
    values = [node.meta["val"] for node in nodes if "val" in node.meta]
    assert max(value.ndim for value in values if isinstance(value, Tensor)) <= 4
    x = torch.randn(5, 3, side, side)
    assert (program.module()(x) - F.adaptive_avg_pool2d(x, 7)).abs().max() < 1e-6
