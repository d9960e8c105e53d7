"""How tiles share a plane: many images, channels and kernels in one frame, exactly.

One axis of a tile has n pixels, a kernel of k, and needs o = n + before + after - k + 1 outputs. Between two
tiles lies a dark gap that serves as the padding of both, so that no kernel ever sees two tiles at once::

    pitch p = n + max(before, after) + guard        full: n + k - 1, same: n + floor(k / 2), valid: n
    T       = floor((R - max(n, o)) / p) + 1        tiles on R pixels; the last one needs no gap after it

A correlation adds positions: an input at P and a kernel at Q answer at P + Q. With i images, c channels and
m kernels in a frame ::

    input  (image, channel)   P = (image c + channel) p
    kernel (kernel, channel)  Q = (kernel i c - channel) p
    answer (image, kernel)    P + Q = (image + kernel i) c p

the fields of a picture's channels meet in one place and add before any detection, while products of a channel
with another channel's kernel land at least one pitch beside every answer. It fits when i c m <= T on each
axis. Input tiling is c = m = 1, kernel tiling c = 1, channel tiling i = m = 1. Groups that share nothing (a
depth-wise layer) lie on a diagonal: g groups take the room of g images times g kernels.

Axis letters: R pixels of the plane, P pictures, C channels, M kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """One axis of one tile."""

    n: int
    k: int
    """Of the kernel as it lies on the plane: dilation included."""
    before: int = 0
    after: int = 0
    guard: int = 0
    """Pixels besides: support of the blur, and how far the camera may be off."""

    @property
    def out(self) -> int:
        """Answers at every pixel; a stride reads some of them."""
        return self.n + self.before + self.after - self.k + 1

    @property
    def pitch(self) -> int:
        """From one tile to the next."""
        return self.n + max(self.before, self.after) + self.guard

    @property
    def extent(self) -> int:
        """Pixels that the last tile takes."""
        return max(self.n, self.out)

    def count(self, plane: int) -> int:
        """Give how many tiles lie on ``plane`` pixels."""
        return 0 if self.extent > plane else (plane - self.extent) // self.pitch + 1


class Cells(NamedTuple):
    """How the tiles of one axis are spent."""

    images: int = 1
    channels: int = 1
    kernels: int = 1
    groups: int = 1

    @property
    def used(self) -> int:
        """Tiles needed: a group lies on a diagonal."""
        return self.images * self.channels * self.kernels * self.groups**2

    def input_at(self, group: int, image: int, channel: int) -> int:
        """Give the place of an input, in pitches."""
        return (group * self.images + image) * self.channels + channel

    def kernel_at(self, group: int, kernel: int, channel: int) -> int:
        """Give the place of a kernel, in pitches; negative ones lie at the far end of the mask's response."""
        step = self.images * self.channels * self.groups
        return (group * self.kernels + kernel) * step - channel

    def output_at(self, group: int, image: int, kernel: int) -> int:
        """Give the place of an answer, in pitches."""
        return self.input_at(group, image, 0) + self.kernel_at(group, kernel, 0)


@dataclass(frozen=True)
class Layout:
    """A frame: tiles of one size, spent on images, channels, kernels and groups along both axes."""

    rows: Axis
    columns: Axis
    down: Cells
    across: Cells

    @property
    def images(self) -> int:
        """Pictures in a frame."""
        return self.down.images * self.across.images

    @property
    def channels(self) -> int:
        """Channels whose fields add in a frame."""
        return self.down.channels * self.across.channels

    @property
    def kernels(self) -> int:
        """Kernels of one group in a frame."""
        return self.down.kernels * self.across.kernels

    @property
    def groups(self) -> int:
        """Groups in a frame."""
        return self.down.groups * self.across.groups

    @property
    def on_mask(self) -> int:
        """Kernels that share the light of one mask."""
        return self.channels * self.kernels * self.groups

    def fits(self, height: int, width: int) -> bool:
        """Say whether a plane holds this frame."""
        return self.down.used <= self.rows.count(height) and self.across.used <= self.columns.count(width)

    def split(self, index: int, what: str) -> tuple[int, int]:
        """Give row and column of the index-th image, channel, kernel or group."""
        return divmod(index, int(getattr(self.across, what)))


def tiles_on(height: int, width: int, rows: Axis, columns: Axis) -> int:
    """Count the tiles on a plane: floor(R1 / p1) floor(R2 / p2), less what does not fit."""
    return rows.count(height) * columns.count(width)


def input_frame(layout: Layout, tiles: Tensor, height: int, width: int) -> Tensor:
    """Lay pictures on the input plane.

    Args:
        layout: Of the frame.
        tiles: (G, P, C, h, w) without padding, at most as many as the layout has room for.
        height: Of the plane.
        width: Of the plane.

    Returns:
        (height, width), dark between the tiles.
    """
    frame = tiles.new_zeros(height, width)
    for g, p, c in _indices(*tiles.shape[:3]):
        (g1, g2), (p1, p2), (c1, c2) = (
            layout.split(g, "groups"),
            layout.split(p, "images"),
            layout.split(c, "channels"),
        )
        top = layout.down.input_at(g1, p1, c1) * layout.rows.pitch
        left = layout.across.input_at(g2, p2, c2) * layout.columns.pitch
        frame[top : top + layout.rows.n, left : left + layout.columns.n] = tiles[g, p, c]
    return frame


def response_frame(layout: Layout, kernels: Tensor, height: int, width: int) -> Tensor:
    """Lay kernels on the plane of the mask's impulse response, whose transform is the mask.

    Args:
        layout: Of the frame.
        kernels: (G, M, C, kh, kw).
        height: Of the response; at least ``layout.rows.pitch`` times the cells used.
        width: Of the response.

    Returns:
        (height, width); negative places wrap around.
    """
    frame = kernels.new_zeros(height, width)
    for g, m, c in _indices(*kernels.shape[:3]):
        (g1, g2), (m1, m2), (c1, c2) = (
            layout.split(g, "groups"),
            layout.split(m, "kernels"),
            layout.split(c, "channels"),
        )
        top = layout.down.kernel_at(g1, m1, c1) * layout.rows.pitch
        left = layout.across.kernel_at(g2, m2, c2) * layout.columns.pitch
        # A correlation reads x at R + q: a kernel that answers at P + Q has its response at -Q.
        frame[
            _around(-top, kernels.shape[-2], height)[:, None], _around(-left, kernels.shape[-1], width)
        ] += kernels[g, m, c]
    return frame


def read_frame(layout: Layout, frame: Tensor, groups: int, images: int, kernels: int) -> Tensor:
    """Read the answers out of a camera frame.

    Args:
        layout: Of the frame.
        frame: (height, width) field, periodic.
        groups: That were laid down.
        images: That were laid down.
        kernels: That were laid down.

    Returns:
        (G, P, M, rows out, columns out), at every pixel.
    """
    rows, columns = layout.rows, layout.columns
    out = frame.new_empty(groups, images, kernels, rows.out, columns.out)
    for g, p, m in _indices(groups, images, kernels):
        (g1, g2), (p1, p2), (m1, m2) = (
            layout.split(g, "groups"),
            layout.split(p, "images"),
            layout.split(m, "kernels"),
        )
        top = layout.down.output_at(g1, p1, m1) * rows.pitch - rows.before
        left = layout.across.output_at(g2, p2, m2) * columns.pitch - columns.before
        places = _around(top, rows.out, frame.shape[0])[:, None], _around(left, columns.out, frame.shape[1])
        out[g, p, m] = frame[places]
    return out


def _around(start: int, size: int, period: int) -> Tensor:
    import torch

    return torch.arange(start, start + size) % period


def _indices(a: int, b: int, c: int) -> list[tuple[int, int, int]]:
    return [(i, j, k) for i in range(a) for j in range(b) for k in range(c)]
