"""V4 to V6: sampled wave optics against theory."""

from math import pi

import pytest
import torch
from torch import Tensor

from fourfold.runtimes.optical4f.propagate import Grid, free_space, lens, propagate, through_4f

WAVELENGTH = 532e-9


def spot(grid: Grid, down: float, right: float, waist: float) -> Tensor:
    x = grid.positions()
    squares = (x[:, None] - down).square() + (x - right).square()
    return torch.exp(-squares / waist**2).to(torch.complex128)


def middle(field: Tensor, grid: Grid) -> tuple[float, float]:
    light, x = field.abs().square(), grid.positions()
    return float((light.sum(1) * x).sum() / light.sum()), float((light.sum(0) * x).sum() / light.sum())


def test_the_focus_of_a_round_lens_is_an_airy_disc() -> None:
    """I = (2 J1(v)/v)^2, v = pi D r/(lambda f): 1e-3 in L2, and 83.78 % of the light in the first ring."""
    grid, across = Grid(512, 4e-6, WAVELENGTH), 128
    focal_length = 4 * grid.spacing * across * grid.spacing / WAVELENGTH
    radius = grid.squared_radius().sqrt()
    # A soft rim, one point wide, stands for a round hole on square points.
    hole = (across / 2 - radius / grid.spacing + 0.5).clamp(0, 1)
    field = hole * lens(grid, focal_length)
    light = propagate(field, grid, focal_length, pad=256).abs().square()
    v = pi * across * grid.spacing * radius / (WAVELENGTH * focal_length)
    airy = (2 * torch.special.bessel_j1(v) / v).square()
    near = v < 12
    peak = (light * airy)[near].sum() / airy.square()[near].sum()
    assert float((light / peak - airy)[near].norm() / airy[near].norm()) <= 1e-3
    assert float(light[v < 3.83171].sum() / (pi * (across / 2) ** 2)) == pytest.approx(0.8378, abs=1e-3)


@pytest.mark.parametrize("fresnel", [False, True])
@pytest.mark.parametrize("ranges", [0.3, 1.0])
def test_a_gaussian_beam_widens_as_it_must(fresnel: bool, ranges: float) -> None:
    """w(z) = w0 sqrt(1 + (z/zR)^2), to 1e-6."""
    grid, waist = Grid(384, 4e-6, WAVELENGTH), 100e-6
    distance = ranges * pi * waist**2 / WAVELENGTH
    light = propagate(spot(grid, 0, 0, waist), grid, distance, pad=192, fresnel=fresnel).abs().square()
    width = 2 * torch.sqrt((light.sum(1) * grid.positions().square()).sum() / light.sum())
    assert float(width) == pytest.approx(waist * (1 + ranges**2) ** 0.5, rel=1e-6)


def test_a_4f_system_magnifies_by_minus_f2_over_f1() -> None:
    grid, first = Grid(384, 4e-6, WAVELENGTH), 10e-3
    clear = torch.ones(384, 384, dtype=torch.complex128)
    image = through_4f(spot(grid, 100e-6, -60e-6, 40e-6), clear, grid, (first, 2 * first))
    down, right = middle(image, grid)
    assert down / 100e-6 == pytest.approx(-2, rel=1e-4)
    assert right / -60e-6 == pytest.approx(-2, rel=1e-4)


def test_there_and_back_is_where_it_was() -> None:
    grid = Grid(64, 4e-6, WAVELENGTH)
    field = torch.randn(64, 64, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    back = propagate(propagate(field, grid, 1e-3), grid, -1e-3)
    assert float((back - field).norm() / field.norm()) <= 1e-9


def test_complex64_fields_keep_their_phase() -> None:
    """The transfer function of 2e5 radians is computed in float64 all the same."""
    grid = Grid(128, 4e-6, WAVELENGTH)
    field = spot(grid, 20e-6, 0, 60e-6)
    exact = propagate(field, grid, 15e-3)
    single = propagate(field.to(torch.complex64), grid, 15e-3)
    assert single.dtype == torch.complex64
    assert float((single - exact).norm() / exact.norm()) <= 1e-6


def test_transfer_functions_are_kept() -> None:
    grid = Grid(32, 4e-6, WAVELENGTH)
    assert free_space(grid, 1e-3) is free_space(Grid(32, 4e-6, WAVELENGTH), 1e-3)
