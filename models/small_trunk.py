"""Small convolutional backbones for small pictures, on which heads are tried.

Axis letters: B batch, C channels, H height, W width, D channels of the result.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Mixing(nn.Module):
    """x + W2 GELU(W1 BN(DW_3(x))): positions mixed depth-wise, then channels."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
            nn.BatchNorm2d(dim),
            nn.Conv2d(dim, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to the same shape."""
        return x + self.branch(x)


def small_trunk(channels: int, dim: int, depth: int) -> nn.Sequential:
    """Build a backbone from (B, C, H, W) to (B, D, H / 4, W / 4)."""
    return nn.Sequential(
        nn.Conv2d(channels, dim // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(dim // 2),
        nn.GELU(),
        nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(dim),
        *(Mixing(dim, 2 * dim) for _ in range(depth)),
    )


class Residual(nn.Module):
    """ReLU(x + BN(K2 * ReLU(BN(K1 * x)))) with two 3x3 convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*_conv_norm(dim, dim), nn.ReLU(), *_conv_norm(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to the same shape."""
        return (x + self.branch(x)).relu()


def residual_trunk(channels: int, dims: tuple[int, ...]) -> nn.Sequential:
    """Build a residual network; each of ``dims`` but the first halves the map and has a residual block.

    Args:
        channels: Of the picture.
        dims: Channels at each size of the map, beginning with the picture's.
    """
    parts: list[nn.Module] = [*_conv_norm(channels, dims[0]), nn.ReLU()]
    for before, dim in pairwise(dims):
        parts += [*_conv_norm(before, dim, stride=2), nn.ReLU(), Residual(dim)]
    return nn.Sequential(*parts)


def _conv_norm(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(outputs)
