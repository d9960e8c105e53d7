"""Parts of a tensor by position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..signature import Bools, Ints


def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints = (),
    begin_mask: Bools = (),
    end_mask: Bools = (),
    squeeze_mask: Bools = (),
) -> Tensor:
    """Slice as Python does; a mask ignores the begin or end, or takes one value and drops the axis."""
    stride = stride or (1,) * x.ndim
    slices = slices_of(x, begin, end, stride, begin_mask, end_mask)
    for axis, (places, single) in enumerate(zip(slices, squeeze_mask or (False,) * x.ndim, strict=True)):
        if single:
            start = 0 if begin_mask and begin_mask[axis] else begin[axis]
            x = x.narrow(axis, start % x.shape[axis], 1)
        else:
            x = _take(x, axis, places)
    return x.squeeze([axis for axis, single in enumerate(squeeze_mask) if single]) if any(squeeze_mask) else x


def slices_of(
    x: Tensor, begin: Ints, end: Ints, stride: Ints, begin_mask: Bools, end_mask: Bools
) -> Sequence[range]:
    """Give the positions of every axis that a slice takes.

    Raises:
        ValueError: If there are not as many as axes.
    """
    if not len(begin) == len(end) == len(stride) == x.ndim:
        message = (
            f"expected begin, end and stride for {x.ndim} axes, got {len(begin)}, {len(end)}, {len(stride)}"
        )
        raise ValueError(message)
    places: list[range] = []
    for axis, size in enumerate(x.shape):
        start = None if begin_mask and begin_mask[axis] else begin[axis]
        stop = None if end_mask and end_mask[axis] else end[axis]
        places.append(range(*slice(start, stop, stride[axis]).indices(size)))
    return places


def _take(x: Tensor, axis: int, places: range) -> Tensor:
    if len(places) == x.shape[axis] and places.step == 1:
        return x
    if places.step == 1 or not places:
        return x.narrow(axis, places.start if places else 0, len(places))
    return x.index_select(axis, torch.tensor(places))


def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """Take as many values as told from a beginning on; -1 takes all that are left."""
    for axis, (start, count) in enumerate(zip(begin, size, strict=True)):
        first = start + x.shape[axis] if start < 0 else start
        x = x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
    return x


def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints = (),
    begin_mask: Bools = (),
    end_mask: Bools = (),
    squeeze_mask: Bools = (),
) -> Tensor:
    """Replace a slice by an update of its shape."""
    slices = list(slices_of(x, begin, end, stride or (1,) * x.ndim, begin_mask, end_mask))
    for axis, single in enumerate(squeeze_mask):
        if single:
            start = 0 if begin_mask and begin_mask[axis] else begin[axis] % x.shape[axis]
            slices[axis] = range(start, start + 1)
    shape = [len(places) for places in slices]
    changed = x.clone()
    changed[torch.meshgrid([torch.tensor(places) for places in slices], indexing="ij")] = update.reshape(
        shape
    )
    return changed


def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Zero the last two axes outside of a band around the diagonal; a negative width keeps everything."""
    rows = torch.arange(x.shape[-2]).unsqueeze(1)
    columns = torch.arange(x.shape[-1])
    keep = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        keep &= rows - columns <= lower
    if upper >= 0:
        keep &= columns - rows <= upper
    return torch.where(keep, x, torch.zeros_like(x))
