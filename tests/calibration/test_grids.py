from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fourfold.calibration.grids import (
    activation_grid,
    to_integers,
    usable,
    weight_scales,
    widen_for_bias,
)
from fourfold.calibration.scheme import OPENVINO, ORT_X86, SYMMETRIC

ends = st.floats(-(2.0**66), 2.0**66, width=32, allow_subnormal=False)


def levels(grid) -> tuple[float, float]:
    info = np.iinfo(grid.dtype)
    return (info.min - grid.zero_point) * grid.scale, (info.max - grid.zero_point) * grid.scale


@given(a=ends, b=ends)
def test_an_asymmetric_grid_covers_the_range_and_zero(a: float, b: float):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    assume(not usable(low, high, ORT_X86))
    grid = activation_grid(low, high, ORT_X86, symmetric=False)
    bottom, top = levels(grid)
    assert 0 <= grid.zero_point <= 255
    assert grid.scale == np.float32(grid.scale)
    # Rounding the zero point moves both ends by at most half a step.
    assert bottom == pytest.approx(low, abs=0.5001 * grid.scale)
    assert top == pytest.approx(high, abs=0.5001 * grid.scale)


@given(high=st.floats(2.0**-10, 2.0**20, width=32))
def test_no_level_reaches_past_the_end_of_a_one_sided_range(high: float):
    grid = activation_grid(0.0, high, ORT_X86, symmetric=False)
    assert grid.zero_point == 0
    assert levels(grid)[1] <= high


def test_symmetric_grids_put_zero_in_the_middle():
    assert activation_grid(-1.0, 3.0, SYMMETRIC, symmetric=True).zero_point == 0
    assert activation_grid(-1.0, 3.0, ORT_X86, symmetric=True).zero_point == 128
    assert levels(activation_grid(-4.0, 3.0, SYMMETRIC, symmetric=True))[1] == pytest.approx(4.0)


def test_what_is_never_negative_keeps_all_levels_where_the_engine_allows():
    unsigned = activation_grid(0.0, 2.55, OPENVINO, symmetric=True)
    assert (unsigned.dtype, unsigned.zero_point) == ("uint8", 0)
    assert unsigned.scale == pytest.approx(0.01)
    assert activation_grid(-1e-3, 2.55, OPENVINO, symmetric=True).dtype == "int8"
    other = replace(OPENVINO, unsigned_positive=False, activations="int8")
    assert activation_grid(0.0, 2.54, other, symmetric=True).scale == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (0.0, 0.0, "all zero"),
        (-np.inf, 1.0, "not finite"),
        (0.0, np.nan, "not finite"),
        (-1e-32, 0.0, "too small"),
    ],
)
def test_degenerate_ranges_are_named(low: float, high: float, reason: str):
    assert reason in usable(low, high, ORT_X86)


def test_a_constant_positive_range_is_usable():
    assert usable(2.0, 2.0, ORT_X86) == ""
    assert levels(activation_grid(2.0, 2.0, ORT_X86, symmetric=False))[1] == pytest.approx(2.0)


@pytest.mark.parametrize("top", [127, 64])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_come_back_within_half_a_step(axis: int | None, top: int):
    weight = np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32)
    scales = weight_scales(weight, axis, top=top)
    integers = to_integers(weight, scales, axis, top=top, dtype="int8")
    shape = [-1 if i == axis else 1 for i in range(3)]
    restored = integers * (scales if axis is None else scales.reshape(shape))
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() == top
    assert np.all(np.abs(restored - weight) <= 0.5001 * np.max(scales))


def test_a_dead_channel_takes_the_scale_of_the_tensor():
    weight = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    weight[1] = 0
    scales = weight_scales(weight, 0, top=127)
    assert scales[1] == pytest.approx(np.abs(weight).max() / 127)
    assert np.all(weight_scales(np.zeros((3, 4), np.float32), 0, top=127) > 0)


def test_scales_grow_until_the_bias_fits_into_int32():
    scales, bias = np.array([1e-9, 1.0], np.float32), np.array([50.0, -50.0], np.float32)
    wide = widen_for_bias(scales, bias, 0.01)
    assert wide[0] > scales[0]
    assert wide[1] == 1.0
    assert np.all(np.abs(bias / (wide * 0.01)) < 2**31)
