"""How many frames a layer takes, and the layout that takes the fewest.

A layer asks for P pictures x C channels x M kernels in each of G groups, and a frame spends its T1 x T2 tiles
on i x c x m of them per axis (``tiling``). ::

    passes = ceil(P / i) ceil(C / c) ceil(M / m) ceil(G / g),   i c m g^2 <= T  on each axis
    frames = passes x frames of one pass (detection scheme, signed inputs)

Pure schemes are corners of this: input tiling (c = m = 1), kernel tiling (c = 1) and channel tiling
(i = m = 1, whose sums are usually given the extent (2 c - 1) p). The search holds all three, so its answer is
never worse than the best of them; it takes only layouts whose kernels leave the wanted light (``light``).
Among equals it takes the one with the fewest kernels on the mask, which is the brightest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...export.artifact import Array
from .light import electrons, enough
from .lower import Layer
from .presets import System
from .tiling import Axis, Cells, Layout

Tiling = Literal["input", "kernel", "channel", "mixed"]
Bright = Callable[[int, int], bool]
"""Whether so many kernels on a mask, of which so many channels add in an answer, leave enough light."""


@dataclass(frozen=True)
class Work:
    """What one layer asks of the plane for one batch."""

    name: str
    groups: int
    pictures: int
    channels: int
    kernels: int
    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, layer: Layer, pictures: int, height: int, width: int, guard: int = 0) -> Work:
        """Describe a layer with pictures of one size."""
        rows, columns = layer.axes(height, width, guard)
        return cls(layer.name, layer.groups, pictures, layer.channels, layer.kernels, rows, columns)

    @property
    def products(self) -> int:
        """Pictures times kernels that have to be laid down."""
        return self.groups * self.pictures * self.channels * self.kernels


@dataclass(frozen=True)
class Plan:
    """How one layer is carried out."""

    work: Work
    layout: Layout
    frames_per_pass: int
    masks_per_pass: int
    electrons: float
    """At the brightest pixel, the full well not considered."""
    bright: bool
    """Whether that is what the system wants; else it is as bright as one kernel per mask allows."""
    exposure: float = 1.0
    """How often the largest expected answer would fill the camera (``set_up``); the laser pays for it."""

    @property
    def passes(self) -> int:
        """Planes of tiles."""
        work, layout = self.work, self.layout
        return -(-work.pictures // layout.images) * self.mask_sets

    @property
    def mask_sets(self) -> int:
        """Different sets of kernels."""
        work, layout = self.work, self.layout
        return (
            -(-work.channels // layout.channels)
            * -(-work.kernels // layout.kernels)
            * -(-work.groups // layout.groups)
        )

    @property
    def frames(self) -> int:
        """Camera frames."""
        return self.passes * self.frames_per_pass

    @property
    def mask_loads(self) -> int:
        """Times that the mask changes when pictures go by under one mask after the other."""
        return self.mask_sets * self.masks_per_pass

    @property
    def tiling(self) -> Tiling:
        """Name the scheme by what a frame holds."""
        kinds = self.layout.channels > 1, self.layout.kernels * self.layout.groups > 1
        if kinds == (False, False):
            return "input"
        if kinds == (False, True):
            return "kernel"
        return "channel" if kinds == (True, False) and self.layout.images == 1 else "mixed"

    def utilisation(self, height: int, width: int) -> float:
        """Give the share of the camera's pixels that carry an answer."""
        work = self.work
        reads = work.groups * work.pictures * work.kernels * -(-work.channels // self.layout.channels)
        answers = reads * work.rows.out * work.columns.out
        return answers / (self.passes * height * width)


def plan(work: Work, system: System, *, frames_per_pass: int = 2, masks_per_pass: int = 1) -> Plan:
    """Find the layout with the fewest frames that leaves enough light.

    Args:
        work: The layer; its tile fits the plane.
        system: Plane and light.
        frames_per_pass: Of the detection scheme, times two where inputs are signed and cannot be shown so.
        masks_per_pass: Of the detection scheme.
    """
    layout = best_layout(work, system.height, system.width, lambda k, c: enough(system, k, c))
    bright = layout is not None
    layout = layout or best_layout(work, system.height, system.width, lambda k, c: k == 1)
    assert layout is not None, "one kernel per mask always fits"
    light = electrons(system, layout.on_mask, layout.channels)
    return Plan(work, layout, frames_per_pass, masks_per_pass, light, bright)


def best_layout(work: Work, height: int, width: int, bright: Bright) -> Layout | None:
    """Search the layouts of a plane; None when no allowed one fits.

    Args:
        work: The layer.
        height: Of the plane.
        width: Of the plane.
        bright: Says whether so many kernels on a mask, of which so many channels add, leave enough light.
    """
    down, across = work.rows.count(height), work.columns.count(width)
    if not down * across:
        return None
    table = np.concatenate([_grid(work, down, across), _kernel_corner(work, down, across)])
    table = np.concatenate([table, _channel_corner(work, height, width)])
    c1, c2, m1, m2, g1, g2 = table.T
    i1, i2 = down // (c1 * m1 * g1**2), across // (c2 * m2 * g2**2)
    passes = (
        -(-work.pictures // (i1 * i2))
        * -(-work.channels // (c1 * c2))
        * -(-work.kernels // (m1 * m2))
        * -(-work.groups // (g1 * g2))
    )
    on_mask, channels = c1 * c2 * m1 * m2 * g1 * g2, c1 * c2
    allowed = _bright(on_mask, channels, bright)
    if not allowed.any():
        return None
    # Fewest passes first, then fewest kernels on the mask.
    cost = np.where(allowed, passes * (int(on_mask.max()) + 1) + on_mask, np.iinfo(np.int64).max)
    best = int(cost.argmin())
    above = Cells(*(int(x[best]) for x in (i1, c1, m1, g1)))
    beside = Cells(*(int(x[best]) for x in (i2, c2, m2, g2)))
    return Layout(work.rows, work.columns, above, beside)


def _bright(on_mask: Array, channels: Array, bright: Bright) -> Array:
    """Ask about every pair of numbers once: (n,) truth values."""
    base = int(channels.max()) + 1
    pairs, places = np.unique(on_mask * base + channels, return_inverse=True)
    return np.array([bright(int(pair) // base, int(pair) % base) for pair in pairs])[places]


def _grid(work: Work, down: int, across: int) -> Array:
    """Give combinations of rectangles of channels, kernels and groups that fit: (n, 6)."""
    channels = _rectangles(work.channels, down, across)
    kernels = _rectangles(work.kernels, down, across)
    groups = _rectangles(work.groups, math.isqrt(down), math.isqrt(across))
    if len(channels) * len(kernels) * len(groups) > 400_000:
        kernels = kernels[:: len(kernels) // 60 + 1]
        groups = groups[:: len(groups) // 20 + 1]
    table = np.concatenate(
        [
            np.repeat(channels, len(kernels) * len(groups), axis=0),
            np.tile(np.repeat(kernels, len(groups), axis=0), (len(channels), 1)),
            np.tile(groups, (len(channels) * len(kernels), 1)),
        ],
        axis=1,
    )
    c1, c2, m1, m2, g1, g2 = table.T
    return table[(c1 * m1 * g1**2 <= down) & (c2 * m2 * g2**2 <= across)]


def _rectangles(count: int, down: int, across: int) -> Array:
    """Give rectangles of tiles for all, half, a third... of so many items: (n, 2), the single tile first."""
    wanted = {-(-count // q) for q in _steps(count)}
    found = {(1, 1)}
    for need in wanted:
        for rows in {*_steps(min(need, down)), min(need, down)}:
            columns = -(-need // rows)
            if columns <= across:
                found.add((rows, columns))
    return np.array(sorted(found, key=lambda r: (r[0] * r[1], r)))


def _steps(most: int) -> list[int]:
    """Give 1 to 8, then about five numbers an octave, up to ``most``."""
    small = [n for n in range(1, 9) if n <= most]
    large = [round(8 * 1.15**n) for n in range(1, 200) if 8 * 1.15**n <= most]
    return sorted({*small, *large, most})


def _kernel_corner(work: Work, down: int, across: int) -> Array:
    """Give the kernel tilings whose rectangle is not cut coarser than needed: (n, 6)."""
    rows = np.arange(1, down + 1)
    useful = {-(-work.kernels // q) for q in range(1, min(work.kernels, 64) + 1)}
    found = [
        np.stack([rows, -(-need // rows)], axis=1)[(-(-need // rows) <= across)] for need in sorted(useful)
    ]
    pairs = np.concatenate(found) if found else np.ones((1, 2), int)
    pairs = pairs[pairs[:, 0] <= work.kernels]
    ones = np.ones((len(pairs), 2), int)
    return np.concatenate([ones, pairs, ones], axis=1)


def _channel_corner(work: Work, height: int, width: int) -> Array:
    """Give the rectangle of channels that pure channel tiling takes: (1, 6)."""
    rows, columns = (
        max((axis.count(plane) + 1) // 2, 1) for axis, plane in ((work.rows, height), (work.columns, width))
    )
    rows = min(rows, work.channels)
    return np.array([[rows, min(columns, -(-work.channels // rows)), 1, 1, 1, 1]])


def pure_passes(work: Work, height: int, width: int) -> Mapping[Tiling, int]:
    """Give the passes of each pure scheme, whatever light it leaves, by the formulas of the literature.

    Args:
        work: The layer.
        height: Of the plane.
        width: Of the plane.
    """
    down, across = work.rows.count(height), work.columns.count(width)
    whole = work.groups * work.channels
    kernels = min(
        (
            -(-work.kernels // (rows * columns)) * -(-work.pictures // ((down // rows) * (across // columns)))
            for rows in range(1, min(down, work.kernels) + 1)
            for columns in range(1, min(across, -(-work.kernels // rows)) + 1)
        ),
    )
    side = [(axis.count(plane) + 1) // 2 for axis, plane in ((work.rows, height), (work.columns, width))]
    return {
        "input": whole * work.kernels * -(-work.pictures // (down * across)),
        "kernel": whole * kernels,
        "channel": work.groups * work.pictures * work.kernels * -(-work.channels // (side[0] * side[1])),
    }


def total_frames(plans: Iterable[Plan]) -> int:
    """Add the frames of all layers."""
    return sum(one.frames for one in plans)
