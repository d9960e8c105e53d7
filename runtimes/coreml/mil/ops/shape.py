"""Operators that move values without changing them: axes, sizes, order, joining and splitting.

Axis letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signature import Ints, Tensors
from ..values import MAX_ELEMENTS, Value


def within(shape: Ints) -> Ints:
    """Refuse shapes that no network needs, before anything is allocated.

    Raises:
        ValueError: If a tensor of this shape would be too large, or has a negative size.
    """
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        message = f"expected at most {MAX_ELEMENTS} values, got shape {shape}"
        raise ValueError(message)
    return shape


def identity(x: Value) -> Value:
    """Give the same."""
    return x


def reshape(x: Tensor, shape: Ints) -> Tensor:
    """Give another shape: -1 takes what is left, 0 keeps a size, counted from the last one."""
    ahead = len(shape) - x.ndim
    kept = [x.shape[i - ahead] if i >= ahead else 1 for i in range(len(shape))]
    return x.reshape([k if size == 0 else size for size, k in zip(shape, kept, strict=True)])


def reshape_like(
    x: Tensor, ref_tensors: Tensors, begins: Ints, ends: Ints, end_masks: tuple[bool, ...]
) -> Tensor:
    """Take the sizes from ranges of axes of other tensors."""
    sizes: list[int] = []
    for tensor, begin, end, whole in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += tensor.shape[begin : None if whole else end]
    return x.reshape(sizes)


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Insert axes of size 1."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Ints = ()) -> Tensor:
    """Drop axes of size 1: the named ones, or all; named axes of another size stay."""
    return x.squeeze(axes) if axes else x.squeeze()


def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """Join the axes before and after a place."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Reorder the axes."""
    return x.permute(perm)


def shape(x: Tensor) -> Tensor:
    """Give the sizes."""
    return torch.tensor(x.shape, dtype=torch.int32)


def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """Join along an axis, one tensor after the other or value by value in turn."""
    parts = tuple(value if value.ndim else value.reshape(1) for value in values)
    if not interleave:
        return torch.cat(parts, axis)
    axis %= parts[0].ndim
    return torch.stack(parts, axis + 1).flatten(axis, axis + 1)


def stack(values: Tensors, axis: int) -> Tensor:
    """Join along a new axis."""
    return torch.stack(values, axis)


def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints = ()) -> Tensor | Tensors:
    """Cut along an axis, into equal parts or into given sizes."""
    if not split_sizes:
        if not num_splits or x.shape[axis] % num_splits:
            message = f"expected {num_splits} equal parts, got size {x.shape[axis]}"
            raise ValueError(message)
        split_sizes = (x.shape[axis] // num_splits,) * num_splits
    ends = list(accumulate(split_sizes))
    if ends[-1] != x.shape[axis]:
        message = f"expected parts that sum up to {x.shape[axis]}, got {split_sizes}"
        raise ValueError(message)
    parts = tuple(x.narrow(axis, end - size, size) for end, size in zip(ends, split_sizes, strict=True))
    return parts[0] if len(parts) == 1 else parts


def tile(x: Tensor, reps: Ints) -> Tensor:
    """Repeat along every axis."""
    within(tuple(size * rep for size, rep in zip(x.shape, reps, strict=True)))
    return x.repeat(reps)


def reverse(x: Tensor, axes: Ints = ()) -> Tensor:
    """Turn around along some axes, or all."""
    return x.flip(axes or tuple(range(x.ndim)))


def reverse_sequence(x: Tensor, lengths: Ints, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Turn around the first values along one axis, as many as each sample of another axis says."""
    moved = x.movedim((batch_axis, seq_axis), (0, 1))
    rows = [
        torch.cat((row[:length].flip(0), row[length:])) for row, length in zip(moved, lengths, strict=True)
    ]
    return torch.stack(rows).movedim((0, 1), (batch_axis, seq_axis))


def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Widen the last axes: ``pad`` is before and after of each in turn."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    first = x.ndim - len(pairs)
    within(tuple(size + (sum(pairs[i - first]) if i >= first else 0) for i, size in enumerate(x.shape)))
    if mode == "constant":
        return F.pad(x, [side for pair in reversed(pairs) for side in pair], value=constant_val)
    for axis, (before, after) in enumerate(pairs, start=first):
        if before or after:
            places = _beyond(x.shape[axis], before, after, mode)
            x = x.index_select(axis, places)
    return x


def _beyond(size: int, before: int, after: int, mode: str) -> Tensor:
    """Where the values of a widened axis come from."""
    places = torch.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    if mode != "reflect" or max(before, after) >= size:
        message = (
            f"expected padding by replicate, or by reflect below the size, got {mode} by {before}, {after}"
        )
        raise ValueError(message)
    return size - 1 - (size - 1 - places.abs()).abs()


def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Move blocks of channels of x (B, C, H, W) into space, the place in the block outermost."""
    b, c, h, w = x.shape
    deep = c // block_size**2
    blocks = x.reshape(b, block_size, block_size, deep, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(b, deep, h * block_size, w * block_size)


def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Move blocks of space of x (B, C, H, W) into channels, the place in the block outermost."""
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // block_size, block_size, w // block_size, block_size).permute(
        0, 3, 5, 1, 2, 4
    )
    return blocks.reshape(b, c * block_size**2, h // block_size, w // block_size)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Move channels of x (B, C, H, W) into space, the channel outermost."""
    return F.pixel_shuffle(x, upscale_factor)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Move space of x (B, C, H, W) into channels, the channel outermost."""
    return F.pixel_unshuffle(x, downscale_factor)


def space_to_batch(x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    """Pad x (B, C, H, W) and move the places in blocks into the batch, the place outermost."""
    top, bottom, left, right = paddings
    high, wide = block_shape
    x = F.pad(x, (left, right, top, bottom))
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // high, high, w // wide, wide).permute(3, 5, 0, 1, 2, 4)
    return blocks.reshape(b * high * wide, c, h // high, w // wide)


def batch_to_space(x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    """Undo ``space_to_batch`` for x (B, C, H, W), then cut the edges."""
    top, bottom, left, right = crops
    high, wide = block_shape
    b, c, h, w = x.shape
    blocks = x.reshape(high, wide, b // (high * wide), c, h, w).permute(2, 3, 4, 0, 5, 1)
    whole = blocks.reshape(b // (high * wide), c, h * high, w * wide)
    return whole[:, :, top : h * high - bottom, left : w * wide - right]


def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """Give all windows along an axis; the place in the window is a new axis right behind."""
    axis %= x.ndim
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)
