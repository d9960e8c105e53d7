"""Tiles that share a plane never disturb each other (V2), and as many fit as the formulas say (V13)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d, pad

from fourfold.runtimes.optical4f.claims import full_tiles
from fourfold.runtimes.optical4f.tiling import (
    Axis,
    Cells,
    Layout,
    input_frame,
    read_frame,
    response_frame,
    tiles_on,
)


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    n, k = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    before = draw(st.integers(0, 3))
    after = draw(st.integers(max(0, k - n - before), max(0, k - n - before) + 2))
    return Axis(n, k, before, after, draw(st.integers(0, 1)))


some = st.sampled_from([1, 1, 2, 3])
cells = st.builds(Cells, some, some, some, st.sampled_from([1, 1, 2]))


def through_one_plane(layout: Layout, x: Tensor, k: Tensor) -> Tensor:
    """Correlate everything on one plane: an independent two-transform 4f."""
    height, width = layout.down.used * layout.rows.pitch, layout.across.used * layout.columns.pitch
    height, width = max(height, layout.rows.extent), max(width, layout.columns.extent)
    light = torch.fft.fft2(input_frame(layout, x, height, width))
    mask = torch.fft.fft2(response_frame(layout, k, height, width)).conj()
    return read_frame(
        layout, torch.fft.ifft2(light * mask).real, layout.groups, layout.images, layout.kernels
    )


def one_by_one(layout: Layout, x: Tensor, k: Tensor) -> Tensor:
    rows, columns = layout.rows, layout.columns
    padded = pad(x, (columns.before, columns.after, rows.before, rows.after))
    return torch.stack([conv2d(pictures, kernels) for pictures, kernels in zip(padded, k, strict=True)])


def drawn(layout: Layout, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    rows, columns = layout.rows, layout.columns
    x = torch.randn(
        layout.groups, layout.images, layout.channels, rows.n, columns.n, generator=g, dtype=dtype
    )
    k = torch.randn(
        layout.groups, layout.kernels, layout.channels, rows.k, columns.k, generator=g, dtype=dtype
    )
    return x, k


@settings(max_examples=40, deadline=None)
@given(rows=axes(), columns=axes(), down=cells, across=cells, seed=st.integers(0, 99))
def test_every_layout_is_exact(rows: Axis, columns: Axis, down: Cells, across: Cells, seed: int) -> None:
    layout = Layout(rows, columns, down, across)
    x, k = drawn(layout, torch.float64, seed)
    expected = one_by_one(layout, x, k)
    error = (through_one_plane(layout, x, k) - expected).abs().max() / expected.abs().max()
    assert error <= 1e-13


@pytest.mark.parametrize(
    ("down", "across"),
    [
        (Cells(images=4), Cells(images=3)),
        (Cells(images=2, kernels=3), Cells(images=2, kernels=2)),
        (Cells(channels=4), Cells(channels=3)),
    ],
    ids=["input", "kernel", "channel"],
)
@pytest.mark.parametrize("pads", [0, 1, 2], ids=["valid", "same", "full"])
def test_pure_schemes_meet_the_page(down: Cells, across: Cells, pads: int) -> None:
    axis = Axis(8, 3, pads, pads)
    layout = Layout(axis, axis, down, across)
    for dtype, bound in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        x, k = drawn(layout, dtype, 1)
        expected = one_by_one(layout, x.double(), k.double())
        error = (through_one_plane(layout, x, k).double() - expected).abs().max() / expected.abs().max()
        assert error <= bound


def test_a_frame_fits_the_smallest_plane_that_holds_it_and_no_smaller() -> None:
    layout = Layout(Axis(5, 3, 1, 1), Axis(4, 4, 0, 0), Cells(2, 3, 1), Cells(1, 2, 2))
    height, width = 5 * 6 + 5, 3 * 4 + 4
    assert layout.fits(height, width)
    assert not layout.fits(height - 1, width)
    assert not layout.fits(height, width - 1)


@pytest.mark.parametrize(
    ("plane", "picture", "kernel", "pads", "tiles"),
    [
        ((1080, 1920), 32, 3, 2, 1736),
        ((1080, 1920), 32, 3, 0, 1980),
        ((1080, 1920), 8, 8, 7, 9216),
        ((1080, 1920), 8, 8, 0, 32400),
        ((2160, 3840), 8, 8, 0, 129600),
    ],
)
def test_counts_of_the_literature(
    plane: tuple[int, int], picture: int, kernel: int, pads: int, tiles: int
) -> None:
    axis = Axis(picture, kernel, pads, pads)
    assert tiles_on(*plane, axis, axis) == tiles


def test_same_tiles_share_their_gaps_and_the_last_needs_none() -> None:
    axis = Axis(8, 3, 1, 1)
    assert [axis.count(plane) for plane in (7, 8, 16, 17, 26)] == [0, 1, 1, 2, 3]


def test_fatnet_s_tiles() -> None:
    assert full_tiles(2160, 2160, 32, 7) == 3136
    assert full_tiles(2160, 3840, 32, 7) == 5656
