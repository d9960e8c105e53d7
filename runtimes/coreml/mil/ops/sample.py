"""Sampling of pictures at given places: boxes, affine maps, coordinates.

Axis letters: B batch, C channels, H height, W width, N boxes; h, w sizes out. Places beyond the edge read
what the padding says: a constant, the edge, or a reflection with or without the edge value itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .resize import spread

_Corners = tuple[Tensor, Tensor, Tensor, Tensor]


def crop_resize(
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Sample boxes of x (B, C, H, W), given as ``roi`` (N, 1, 4 or 5, 1, 1) or ``boxes`` (N, 4).

    Returns:
        Shape (N, C, h, w) for ``boxes``; (N, B, C, h, w) for ``roi`` of 4, which samples every picture, and
        (N, 1, C, h, w) for ``roi`` of 5, whose first value says which.
    """
    corners = boxes if boxes is not None else roi
    if corners is None:
        message = "expected roi or boxes, got neither"
        raise ValueError(message)
    flat = corners.float().reshape(corners.shape[0], -1)
    target = (target_height, target_width)
    scale = (x.shape[-2] - 1, x.shape[-1] - 1) if normalized_coordinates else (1, 1)

    def cut(picture: Tensor, box: Tensor) -> Tensor:
        top, left, bottom, right = _corners(box * spatial_scale, box_coordinate_mode)
        rows = _within_box(top * scale[0], bottom * scale[0], target[0], sampling_mode)
        columns = _within_box(left * scale[1], right * scale[1], target[1], sampling_mode)
        down, across = rows.unsqueeze(1).expand(target), columns.unsqueeze(0).expand(target)
        mixed = bilinear(picture, down, across, pad_value)
        high, wide = picture.shape[1:]
        # A place outside reads the padding alone, instead of mixing it with the edge.
        outside = (down < 0) | (down > high - 1) | (across < 0) | (across > wide - 1)
        return torch.where(outside, torch.full_like(mixed, pad_value), mixed)

    if boxes is not None:
        which = torch.arange(len(flat)) if box_indices is None else box_indices
        return torch.stack([cut(x[int(i)], box) for i, box in zip(which, flat, strict=True)])
    if flat.shape[1] == 5:
        return torch.stack([cut(x[int(box[0])], box[1:]).unsqueeze(0) for box in flat])
    return torch.stack([torch.stack([cut(picture, box) for picture in x]) for box in flat])


def _within_box(start: Tensor, end: Tensor, target: int, mode: str) -> Tensor:
    size = float(end - start) + 1
    places = spread(mode, size, target)
    return float(start) + (places.clamp(0, size - 1) if size > 1 else places)


def _corners(box: Tensor, mode: str) -> _Corners:
    a, b, c, d = box
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CENTER_SIZE"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample x (B, C, H, W) where matrices (B or 1, 6) map the places of the result to."""
    rows = _unit(output_height, align_corners=align_corners)
    columns = _unit(output_width, align_corners=align_corners)
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    matrices = transform_matrix.double().reshape(-1, 2, 3, 1, 1).expand(x.shape[0], 2, 3, 1, 1)
    mapped = matrices[:, :, 0] * across + matrices[:, :, 1] * down + matrices[:, :, 2]
    return resample(
        x,
        mapped.permute(0, 2, 3, 1),
        sampling_mode,
        padding_mode,
        padding_value,
        coordinates_mode,
        align_corners,
    )


def _unit(size: int, *, align_corners: bool) -> Tensor:
    """Give the places of the values of an axis between -1 and 1."""
    steps = torch.arange(size, dtype=torch.float64)
    return 2 * steps / max(size - 1, 1) - 1 if align_corners else (2 * steps + 1) / size - 1


def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample x (B, C, H, W) at coordinates (B, h, w, 2), each across and then down."""
    places = coordinates.double()
    across = _pixels(places[..., 0], x.shape[3], coordinates_mode, align_corners=align_corners)
    down = _pixels(places[..., 1], x.shape[2], coordinates_mode, align_corners=align_corners)
    if padding_mode not in _PADDINGS:
        message = f"expected padding {', '.join(_PADDINGS)}, got {padding_mode!r}"
        raise ValueError(message)
    read, fold = nearest if sampling_mode == "nearest" else bilinear, _PADDINGS[padding_mode]
    down, across = fold(down, x.shape[2]), fold(across, x.shape[3])
    return torch.stack([read(x[i], down[i], across[i], padding_value) for i in range(x.shape[0])])


def _pixels(places: Tensor, size: int, mode: str, *, align_corners: bool) -> Tensor:
    if mode == "unnormalized":
        return places
    if mode == "normalized_minus_one_to_one":
        places = (places + 1) / 2
    return places * (size - 1) if align_corners else places * size - 0.5


Fold = Callable[[Tensor, int], Tensor]
"""From places anywhere to places between the first and the last value of an axis."""


def _as_it_is(places: Tensor, size: int) -> Tensor:
    return places


def _border(places: Tensor, size: int) -> Tensor:
    return places.clamp(0, size - 1)


def _reflection(places: Tensor, size: int) -> Tensor:
    return _folded(places, max(size - 1, 1)).clamp(0, size - 1)


def _symmetric(places: Tensor, size: int) -> Tensor:
    return (_folded(places + 0.5, size) - 0.5).clamp(0, size - 1)


def _folded(places: Tensor, span: int) -> Tensor:
    return span - (places.remainder(2 * span) - span).abs()


_PADDINGS: dict[str, Fold] = {
    "constant": _as_it_is,
    "border": _border,
    "reflection": _reflection,
    "symmetric": _symmetric,
}


def bilinear(x: Tensor, down: Tensor, across: Tensor, constant: float) -> Tensor:
    """Interpolate x (C, H, W) at places of shape (h, w), which need not be whole."""
    top, left = down.floor(), across.floor()
    share_down, share_across = (down - top).float(), (across - left).float()
    rows, columns = top.long(), left.long()
    reads = [[_read(x, rows + i, columns + j, constant) for j in (0, 1)] for i in (0, 1)]
    upper = reads[0][0] * (1 - share_across) + reads[0][1] * share_across
    lower = reads[1][0] * (1 - share_across) + reads[1][1] * share_across
    return upper * (1 - share_down) + lower * share_down


def nearest(x: Tensor, down: Tensor, across: Tensor, constant: float) -> Tensor:
    """Take the nearest values of x (C, H, W), ties to even."""
    return _read(x, down.round().long(), across.round().long(), constant)


def _read(x: Tensor, rows: Tensor, columns: Tensor, constant: float) -> Tensor:
    high, wide = x.shape[1:]
    values = x[:, rows.clamp(0, high - 1), columns.clamp(0, wide - 1)]
    outside = (rows < 0) | (rows >= high) | (columns < 0) | (columns >= wide)
    return torch.where(outside, torch.full_like(values, constant), values)
