"""V10: the camera's mean, variance and photon-transfer curve, over a million pixels."""

from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import Tensor

from fourfold.errors import UsageError
from fourfold.runtimes.optical4f.conditions import Conditions
from fourfold.runtimes.optical4f.sensor import Exposed, Pattern, expose, pattern, read, snr
from fourfold.runtimes.optical4f.simulate import simulate_pass

PIXELS = 1_000_000
NONE = Pattern(None, None)


def shots(electrons: float, conditions: Conditions, *, fixed: Pattern = NONE) -> Tensor:
    """A million reads of one brightness, in electrons."""
    one = torch.ones((), dtype=torch.float64)
    exposed = Exposed(one, one * (conditions.full_well or 1e9))
    light = torch.full((PIXELS,), electrons, dtype=torch.float64)
    return read(light, exposed, fixed, conditions, torch.Generator().manual_seed(0))


def assert_moments(seen: Tensor, mean: float, variance: float) -> None:
    """Within three standard errors."""
    assert abs(float(seen.mean()) - mean) <= 3 * sqrt(variance / PIXELS)
    assert abs(float(seen.var()) - variance) <= 3 * variance * sqrt(2 / PIXELS)


@pytest.mark.parametrize("exact", [False, True])
def test_mean_and_variance(exact: bool) -> None:
    """mean = gain I, var = read^2 + n + LSB^2/12."""
    conditions = Conditions(full_well=2e4, read_noise=5, adc_bits=10, exact_poisson=exact)
    step = 2e4 / 1023
    assert_moments(shots(5000.3, conditions), 5000.3, 25 + 5000.3 + step**2 / 12)


def test_photon_transfer_has_slope_one() -> None:
    levels = (500.0, 1000.0, 2000.0, 4000.0, 8000.0)
    conditions = Conditions(full_well=2e4, read_noise=5)
    variances = [float(shots(level, conditions).var()) for level in levels]
    slope = (variances[-1] - variances[0]) / (levels[-1] - levels[0])
    assert slope == pytest.approx(1, abs=3 * sqrt(2 / PIXELS) * 8000 / 7500 + 1e-3)
    assert variances[0] == pytest.approx(525, rel=3 * sqrt(2 / PIXELS))


def test_dark_current_adds_noise_but_no_signal() -> None:
    assert_moments(shots(1000.0, Conditions(electrons=1e4, dark=200.0)), 1000.0, 1200.0)


def test_prnu_grows_with_the_signal() -> None:
    conditions = Conditions(full_well=2e4, prnu=0.01)
    fixed = pattern(conditions, (PIXELS,), torch.float64)
    assert_moments(shots(5000.0, conditions, fixed=fixed), 5000.0, 5000 + (0.01 * 5000) ** 2)
    again = pattern(conditions, (PIXELS,), torch.float64)
    assert fixed.response is not None
    assert again.response is not None
    assert torch.equal(fixed.response, again.response)


def test_the_ratio_of_signal_to_noise() -> None:
    conditions = Conditions(full_well=2e4, read_noise=5, adc_bits=8, prnu=0.01)
    fixed = pattern(conditions, (PIXELS,), torch.float64)
    seen = shots(5000.0, conditions, fixed=fixed)
    expected = float(snr(torch.tensor(5000.0), conditions))
    assert float(seen.mean() / seen.std()) == pytest.approx(expected, rel=0.01)


def test_a_full_well_saturates() -> None:
    conditions = Conditions(full_well=1e4)
    assert float(shots(3e4, conditions).max()) == 1e4


def test_a_black_level_keeps_the_dark_unbiased() -> None:
    clipped = shots(0.0, Conditions(full_well=1e4, read_noise=10, adc_bits=12))
    lifted = shots(0.0, Conditions(full_well=1e4, read_noise=10, adc_bits=12, offset=100))
    assert float(clipped.mean()) > 3
    assert abs(float(lifted.mean())) < 0.05


def test_the_normal_law_is_near_poisson_as_stated() -> None:
    """The distribution functions differ by at most 0.07/sqrt(n), but for the sampling of a million."""
    for n in (20.5, 100.5):
        drawn = shots(n, Conditions(electrons=1e4, exact_poisson=True))
        ladder = torch.arange(0, 3 * n, dtype=torch.float64)
        exact = torch.searchsorted(drawn.sort().values, ladder, right=True) / PIXELS
        normal = torch.special.ndtr((ladder + 0.5 - n) / sqrt(n))
        assert float((exact - normal).abs().max()) < 0.07 / sqrt(n) + 2e-3


@pytest.mark.parametrize("exposure", ["full-scale", "mean", "source"])
def test_what_electrons_count(exposure: str) -> None:
    conditions = Conditions(electrons=1000.0, exposure=exposure)  # pyright: ignore[reportArgumentType]
    peak, mean = torch.tensor(0.5), torch.tensor(0.1)
    exposed = expose(conditions, peak, mean if exposure == "mean" else None)
    assert exposed.per_electron is not None
    unit = {"full-scale": 0.5, "mean": 0.1, "source": 1.0}[exposure]
    assert float(exposed.per_electron) == pytest.approx(1000 / unit)


def test_a_pass_reports_its_light() -> None:
    generator = torch.Generator().manual_seed(0)
    tile, kernel = torch.rand(16, 16, generator=generator), torch.randn(3, 3, generator=generator)
    full = Conditions(electrons=2e4, full_well=1e4, adc_bits=8)
    over = simulate_pass(tile, kernel, scheme="pseudo-negative", conditions=full, generator=generator)
    assert over.peak_electrons == pytest.approx(2e4, rel=1e-5)
    assert 0 < over.saturated < 1
    well = simulate_pass(
        tile, kernel, conditions=replace(full, electrons=None), scheme="pseudo-negative", generator=generator
    )
    assert well.peak_electrons == pytest.approx(1e4, rel=1e-5)
    assert well.saturated == 0
    source = replace(full, exposure="source", electrons=1e4)
    dim = simulate_pass(tile, kernel, conditions=source, scheme="pseudo-negative", generator=generator)
    assert dim.peak_electrons is not None
    assert dim.peak_electrons <= 1e4  # passivity: no brighter than the input


def test_the_same_seed_gives_the_same_noise() -> None:
    tile, kernel = torch.rand(8, 8), torch.randn(3, 3)
    conditions = Conditions(electrons=100.0, phase_drift=0.1, laser_rin=0.01)
    answers = [
        simulate_pass(
            tile, kernel, conditions=conditions, generator=torch.Generator().manual_seed(seed)
        ).answer
        for seed in (1, 1, 2)
    ]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"adc_bits": 0}, "expected adc_bits from 1 to 24, got 0"),
        ({"electrons": -1.0}, "expected electrons above 0"),
        ({"prnu": -0.1}, "expected prnu of at least 0"),
        ({"read_noise": 5.0}, "expected electrons or full_well beside read_noise"),
        ({"exposure": "auto"}, "expected exposure from full-scale, mean, source"),
    ],
)
def test_a_device_that_cannot_be_is_refused(given: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Conditions(**given)  # pyright: ignore[reportArgumentType]


def test_an_error_budget_names_its_fields() -> None:
    everything = Conditions(electrons=1e3, adc_bits=8, mask_bits=6, defocus=0.1)
    assert everything.only("adc_bits") == Conditions(adc_bits=8)
    with pytest.raises(UsageError, match="expected fields of Conditions, got 'bits'"):
        everything.only("bits")
