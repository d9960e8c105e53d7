"""The orders in which the heads of MHS-VM read a map: two routes per pattern, and each of them backwards.

On a map of three rows and four columns, where a number is the step at which a pixel is read::

    C  0  1  2  3    X  0  1  5  6    S  0  1  2  3    Z  0  1  2  3
       7  6  5  4       2  4  7 10       9 10 11  4       4  5  6  7
       8  9 10 11       3  8  9 11       8  7  6  5       8  9 10 11

The second route of C and of Z goes by columns; that of X is mirrored left to right, that of S upside down.

Axis letters: H height, W width, L = H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def routes(pattern: str, height: int, width: int) -> Tensor:
    """Give the pixel that is read at each step, as an index into rows, for route, reverse, route, reverse.

    Args:
        pattern: C, X, S or Z.
        height: Of the map.
        width: Of the map.

    Returns:
        (4, L), on the CPU.
    """
    grid = torch.arange(height * width, device="cpu").view(height, width)
    pair = _PATTERNS[pattern](grid)
    return torch.stack([one for route in pair for one in (route, route.flip(0))])


def _snakes(grid: Tensor) -> tuple[Tensor, Tensor]:
    return _snake(grid), _snake(grid.T)


def _snake(grid: Tensor) -> Tensor:
    """Read along rows, every other one backwards."""
    turned = grid.clone()
    turned[1::2] = turned[1::2].flip(1)
    return turned.flatten()


def _diagonals(grid: Tensor) -> tuple[Tensor, Tensor]:
    return _diagonal(grid), _diagonal(grid.flip(1))


def _diagonal(grid: Tensor) -> Tensor:
    """Read along diagonals that rise to the right, down and up in turns."""
    height, width = grid.shape
    lines = [grid.flip(1).diagonal(width - 1 - k) for k in range(height + width - 1)]
    return torch.cat([line if k % 2 else line.flip(0) for k, line in enumerate(lines)])


def _spirals(grid: Tensor) -> tuple[Tensor, Tensor]:
    return _spiral(grid), _spiral(grid.flip(0))


def _spiral(grid: Tensor) -> Tensor:
    """Read clockwise from the upper left corner to the middle."""
    rows: list[Tensor] = []
    while grid.numel():
        rows.append(grid[0])
        grid = grid[1:].rot90()
    return torch.cat(rows)


def _rasters(grid: Tensor) -> tuple[Tensor, Tensor]:
    return grid.flatten(), grid.T.flatten()


_PATTERNS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "C": _snakes,
    "X": _diagonals,
    "S": _spirals,
    "Z": _rasters,
}
