"""Reading and writing at positions that a tensor gives.

Positions may be negative, counted from the end, as iOS15 has them; later versions leave them undefined. A
position outside is an error, though Core ML leaves what happens undefined.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..signature import Ints

_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "update": lambda old, new: new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": torch.maximum,
    "min": torch.minimum,
}


def gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """Replace an axis by what the indices read from it; the first axes are taken together one by one."""
    axis %= x.ndim
    if not batch_dims:
        flat = x.index_select(axis, _inside(indices, x.shape[axis]).reshape(-1))
        return flat.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])
    lead = x.shape[:batch_dims]
    rows = [
        gather(values, places, axis - batch_dims)
        for values, places in zip(
            x.flatten(0, batch_dims - 1), indices.flatten(0, batch_dims - 1), strict=True
        )
    ]
    return torch.stack(rows).reshape(lead + rows[0].shape)


def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """Read along an axis, with indices of the rank of x."""
    return torch.take_along_dim(x, _inside(indices, x.shape[axis]), axis)


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Read at positions whose last axis lists one index for each of the first axes of x."""
    if batch_dims:
        lead = x.shape[:batch_dims]
        pairs = zip(x.flatten(0, batch_dims - 1), indices.flatten(0, batch_dims - 1), strict=True)
        rows = [gather_nd(values, places) for values, places in pairs]
        return torch.stack(rows).reshape(lead + rows[0].shape)
    return x[_positions(x, indices)]


def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """Change slices of an axis at the positions of a list."""
    axis %= data.ndim
    places = _inside(indices, data.shape[axis])
    moved = _changed(data.movedim(axis, 0), (places,), updates.movedim(axis, 0), mode)
    return moved.movedim(0, axis)


def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """Change values along an axis, with indices of the rank of data."""
    axis %= data.ndim
    grid = list(torch.meshgrid([torch.arange(size) for size in indices.shape], indexing="ij"))
    grid[axis] = _inside(indices, data.shape[axis])
    return _changed(data, tuple(grid), updates, mode)


def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """Change slices at positions whose last axis lists one index for each of the first axes of data."""
    return _changed(data, _positions(data, indices), updates, mode)


def _positions(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(_inside(indices[..., i], x.shape[i]) for i in range(indices.shape[-1]))


def _inside(indices: Tensor, size: int) -> Tensor:
    places = indices.long()
    if places.numel() and not (-size <= int(places.min()) and int(places.max()) < size):
        message = f"expected positions within {size}, got {int(places.min())} to {int(places.max())}"
        raise IndexError(message)
    return torch.where(places < 0, places + size, places)


def _changed(data: Tensor, places: tuple[Tensor, ...], updates: Tensor, mode: str) -> Tensor:
    """Apply updates one after another where positions repeat; of several ``update``s the last one stays."""
    changed = data.contiguous().clone()
    if mode == "add":
        return changed.index_put_(places, updates, accumulate=True)
    if mode == "sub":
        return changed.index_put_(places, -updates, accumulate=True)
    flat, counted = _flat(data.shape, places)
    values = updates.reshape(len(counted), -1)
    whole = changed.reshape(-1, values.shape[1]) if values.shape[1] else changed.reshape(flat, 0)
    if mode not in _CHANGES:
        message = f"expected mode add, sub, {', '.join(_CHANGES)}, got {mode!r}"
        raise ValueError(message)
    for place, value in zip(map(int, counted), values, strict=True):
        whole[place] = _CHANGES[mode](whole[place], value)
    return whole.reshape(data.shape)


def _flat(shape: Ints, places: tuple[Tensor, ...]) -> tuple[int, Tensor]:
    """Give the positions in the joined first axes, and the size of these."""
    total, counted = 1, torch.zeros_like(places[0])
    for size, place in zip(shape, places, strict=False):
        total *= size
        counted = counted * size + place
    return total, counted.reshape(-1)
