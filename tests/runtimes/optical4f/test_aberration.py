"""V3, V7 and V11: light that passes masks, pupils and pixels."""

from math import acos, exp, pi, sqrt

import pytest
import torch
from torch import Tensor

from fourfold.errors import UsageError
from fourfold.runtimes.optical4f.aberration import noll, pupil, strehl, zernike
from fourfold.runtimes.optical4f.conditions import IDEAL, Conditions
from fourfold.runtimes.optical4f.encoding import ENCODINGS, encode
from fourfold.runtimes.optical4f.masks import correlation, intensity_transfer, prepare_masks
from fourfold.runtimes.optical4f.plane import WHOLE, fields, spectrum
from fourfold.runtimes.optical4f.simulate import simulate_pass

KERNEL = torch.randn(7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TILE = torch.rand(64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def field(conditions: Conditions, kernel: Tensor = KERNEL) -> Tensor:
    """The complex field of one tile over the whole plane."""
    masks = prepare_masks(kernel, (64, 64), conditions=conditions)
    return fields(spectrum(TILE, masks, WHOLE), masks, (slice(64), slice(64)))[0] / masks.gain[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_mask_only_takes_light_away(encoding: str) -> None:
    """V3: |H| <= 1, P_out <= P_in, and Parseval between the planes."""
    wanted = correlation(KERNEL, (64, 64))
    shown = encode(wanted / wanted.abs().max(), encoding, 4)  # pyright: ignore[reportArgumentType]
    assert float(shown.abs().max()) <= 1 + 1e-12
    image = torch.fft.fft2(TILE)
    assert float(image.abs().square().sum() / 64**2) == pytest.approx(float(TILE.square().sum()), rel=1e-6)
    out = torch.fft.ifft2(image * shown)
    assert float(out.abs().square().sum()) <= float(TILE.square().sum()) * (1 + 1e-12)


def test_coherent_cut_off() -> None:
    """V7: a round stop passes frequencies below D/(2 lambda f) whole and the others not at all."""
    passed = pupil(Conditions(stop=0.5), (256, 256), torch.float64)
    assert passed is not None
    along = passed[0, :128].abs()
    rate = torch.arange(128) / 256  # cycles per pixel; Nyquist is the pupil's rim
    assert bool((along[rate < 0.25] == 1).all())
    assert float(along[rate > 0.25].max()) <= 1e-6


def test_incoherent_cut_off() -> None:
    """V7: MTF = 2/pi (acos v - v sqrt(1 - v^2)), v = u lambda f/D, to 1 %, and nothing beyond."""
    passed = pupil(Conditions(stop=0.5), (512, 512), torch.float64)
    assert passed is not None
    transfer = intensity_transfer(passed)
    along = (transfer[0, :256] / transfer[0, 0]).real
    for place in range(0, 254, 8):
        v = place / 256
        assert float(along[place]) == pytest.approx(2 / pi * (acos(v) - v * sqrt(1 - v * v)), abs=0.01)
    masked = torch.zeros(512, 512)
    masked[:256, :256] = passed.real[:256, :256]
    beyond = torch.hypot(*torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")) > 257
    assert float((transfer[:256, :256] / transfer[0, 0]).abs()[beyond].max()) <= 1e-6


def test_a_shifted_mask_is_a_phase_ramp() -> None:
    """V11: H(u - d) is the kernel times exp(2 pi i d x/N), x from its middle."""
    shift = (0.7, -1.3)
    x = torch.arange(7, dtype=torch.float64) - 3
    phase = 2 * pi * (shift[0] * x[:, None] + shift[1] * x) / 64
    turned = torch.polar(torch.ones_like(phase), -phase) * KERNEL  # flipped, as masks are
    real = field(IDEAL, turned.real.contiguous())
    imaginary = field(IDEAL, turned.imag.contiguous())
    assert torch.allclose(field(Conditions(mask_shift=shift)), torch.complex(real, imaginary), atol=1e-10)


def test_the_whole_mask_sets_the_shift() -> None:
    """One of 256 pixels is four times less than one of 64."""
    far = field(Conditions(mask_shift=(1.0, 0.0), mask_pixels=(256, 256)))
    near = field(Conditions(mask_shift=(0.25, 0.0)))
    assert torch.allclose(far, near, atol=1e-10)


def test_defocus_is_a_quadratic_phase() -> None:
    """V11: W = W020 rho^2, by its own formula."""
    rate = torch.fft.fftfreq(64, dtype=torch.float64)
    waves = 0.2 * 4 * (rate[:, None] ** 2 + rate**2)
    transfer = correlation(KERNEL, (64, 64)) * torch.exp(2j * pi * waves)
    expected = torch.fft.ifft2(torch.fft.fft2(TILE) * transfer)
    assert torch.allclose(field(Conditions(defocus=0.2)), expected, atol=1e-10)


@pytest.mark.parametrize("index", [4, 5, 7, 11])
@pytest.mark.parametrize("waves", [0.01, 0.03, 0.049])
def test_strehl_ratio(index: int, waves: float) -> None:
    """V11: exp(-(2 pi sigma)^2), to 2 % below 0.05 waves."""
    aberrated = pupil(Conditions(zernike=((index, waves),), stop=1.0), (256, 256), torch.float64)
    perfect = pupil(Conditions(stop=1.0), (256, 256), torch.float64)
    assert aberrated is not None
    assert perfect is not None
    assert float(strehl(aberrated, perfect)) == pytest.approx(exp(-((2 * pi * waves) ** 2)), rel=0.02)


def test_zernike_polynomials_are_orthonormal() -> None:
    x = (torch.arange(400, dtype=torch.float64) - 199.5) / 200
    rho, theta = torch.hypot(x[:, None], x), torch.atan2(x[:, None], x.expand(400, 400))
    inside = rho <= 1
    values = torch.stack([zernike(j, rho, theta)[inside] for j in range(1, 16)])
    assert torch.allclose(values @ values.T / inside.sum(), torch.eye(15, dtype=torch.float64), atol=0.01)
    assert [noll(j) for j in (1, 2, 3, 4, 5, 6, 7, 8, 11)] == [
        (0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (4, 0)
    ]  # fmt: skip
    with pytest.raises(UsageError, match="expected a Noll index from 1 to 36, got 37"):
        noll(37)


def test_a_camera_beside_its_place_reads_between_pixels() -> None:
    whole = field(Conditions(camera_shift=(1.0, 0.0)))
    assert torch.allclose(whole.roll(1, 0), field(IDEAL), atol=1e-10)
    smooth = torch.cos(2 * pi * torch.arange(64, dtype=torch.float64) / 64).expand(64, 64) + 1
    masks = prepare_masks(
        torch.ones(1, 1, dtype=torch.float64), (64, 64), conditions=Conditions(camera_shift=(0, 0.25))
    )
    seen = fields(spectrum(smooth, masks, WHOLE), masks, (slice(64), slice(64)))[0]
    expected = torch.cos(2 * pi * (torch.arange(64, dtype=torch.float64) + 0.25) / 64).expand(64, 64) + 1
    assert torch.allclose(seen, expected, atol=1e-10)


def test_pixels_blur_and_a_mask_can_compensate() -> None:
    exact = simulate_pass(TILE, KERNEL).answer
    blurred = simulate_pass(TILE, KERNEL, conditions=Conditions(input_fill=0.96)).answer
    mended = simulate_pass(TILE, KERNEL, conditions=Conditions(input_fill=0.96, precompensate=True))
    assert float((blurred - exact).norm() / exact.norm()) > 0.01
    assert float((mended.answer - exact).norm() / exact.norm()) <= 1e-10
    assert mended.efficiency < simulate_pass(TILE, KERNEL).efficiency


def test_double_phase_is_exact_where_its_second_image_is_not() -> None:
    """The ghost lies half a plane away; averaged over both checkerboards it cancels."""
    wanted = correlation(KERNEL, (64, 64)) / correlation(KERNEL, (64, 64)).abs().max()
    shown = encode(wanted, "double-phase")
    other = encode(wanted.roll(1, 0), "double-phase").roll(-1, 0)
    assert torch.allclose(shown.abs(), torch.ones_like(shown.abs()))
    assert torch.allclose((shown + other) / 2, wanted, atol=1e-5)
