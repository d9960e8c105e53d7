"""What non-idealities do to whole passes: orders of magnitude of the specification, and gradients."""

from dataclasses import replace
from itertools import pairwise
from math import cos

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fourfold.runtimes.optical4f import camera, observe
from fourfold.runtimes.optical4f.conditions import IDEAL, Conditions
from fourfold.runtimes.optical4f.convolve import Geometry, conv_masks, optical_conv2d
from fourfold.runtimes.optical4f.detection import SCHEMES, four_step_field
from fourfold.runtimes.optical4f.encoding import ENCODINGS
from fourfold.runtimes.optical4f.plane import Window
from fourfold.runtimes.optical4f.simulate import PassResult, simulate_pass

GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.rand(128, 128, generator=GENERATOR, dtype=torch.float64)
KERNEL = torch.randn(7, 7, generator=GENERATOR, dtype=torch.float64)
SAME = Window((3, 3, 3, 3))


def off(conditions: Conditions, *, kernel: Tensor = KERNEL, **given: object) -> float:
    wanted = conv2d(IMAGE[None, None], kernel[None, None], padding=3)[0, 0]
    answer = simulate_pass(IMAGE, kernel, conditions=conditions, window=SAME, **given).answer  # pyright: ignore
    return float((answer - wanted).norm() / wanted.norm())


def test_balanced_detection_loses_a_factor_of_four_per_two_bits() -> None:
    """The specification's row, within a factor of two: .097 .025 .0064 .0017 .0004."""
    errors = [off(Conditions(adc_bits=bits)) for bits in (4, 6, 8, 10, 12)]
    for got, stated in zip(errors, (0.097, 0.025, 0.0064, 0.0017, 0.0004), strict=True):
        assert stated / 2 < got < stated * 2
    assert all(3 < more / less < 5 for more, less in pairwise(errors))


@pytest.mark.parametrize("bits", [6, 8, 10])
def test_the_order_of_the_schemes(bits: int) -> None:
    """Balanced detection is best and a biased kernel worst, at every depth."""
    errors = {name: off(Conditions(adc_bits=bits), scheme=name) for name in SCHEMES}
    assert min(errors, key=lambda name: errors[name]) in ("homodyne", "phase-shifting")
    assert errors["homodyne"] < errors["reference"] < errors["kernel-bias"]
    assert errors["pseudo-negative"] < errors["kernel-bias"]


def test_few_photons_cost_accuracy_as_their_root() -> None:
    errors = [off(Conditions(electrons=n), generator=torch.Generator().manual_seed(1)) for n in (1e3, 1e5)]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(("bits", "stated"), [(2, 0.13), (4, 0.05), (6, 0.013), (8, 0.0046)])
def test_bits_of_the_mask(bits: int, stated: float) -> None:
    """The specification's row, within a factor of five: it depends on the kernel."""
    got = off(Conditions(mask_bits=bits), kernel=KERNEL.abs())
    assert stated / 5 < got < stated * 5


def test_lesser_masks_lose_the_kernel() -> None:
    errors = {name: off(IDEAL, kernel=KERNEL.abs(), encoding=name) for name in ENCODINGS}
    assert errors.pop("complex") <= 1e-12
    assert errors.pop("double-phase") <= 1e-5
    assert all(0.1 < error < 1 for error in errors.values())


def test_a_reference_field_does_not_see_the_second_image_of_a_double_phase() -> None:
    assert off(IDEAL, encoding="double-phase") <= 1e-5
    assert off(IDEAL, encoding="double-phase", scheme="pseudo-negative") > 0.1


def test_contrast_is_known_and_taken_off() -> None:
    for name in SCHEMES:
        assert off(Conditions(contrast=50.0), scheme=name) <= 1e-9
    errors = [off(Conditions(contrast=c, contrast_known=False)) for c in (1000.0, 200.0, 50.0)]
    assert errors == sorted(errors)
    assert errors[0] > 0.01


def test_misalignment_and_defocus_grow() -> None:
    for field, values in {
        "mask_shift": [(0.0, d) for d in (0.5, 1.0, 2.0)],
        "camera_shift": [(0.0, d) for d in (0.1, 0.25, 0.5)],
        "defocus": [0.05, 0.1, 0.25],
    }.items():
        errors = [off(replace(IDEAL, **{field: value})) for value in values]  # pyright: ignore
        assert errors == sorted(errors)
        assert 1e-4 < errors[0] < errors[-1] < 1


def test_a_drifting_reference_scales_the_signal_by_its_cosine() -> None:
    drift, seed = 0.3, 5
    drawn = torch.randn((1, 1, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    given = {"window": SAME, "generator": torch.Generator().manual_seed(seed)}
    seen = simulate_pass(IMAGE, KERNEL, conditions=Conditions(phase_drift=drift), **given).answer  # pyright: ignore
    assert torch.allclose(seen, simulate_pass(IMAGE, KERNEL, window=SAME).answer * cos(drift * float(drawn)))


def test_four_steps_give_the_complex_field() -> None:
    """E = ((I0 - I180) + i (I90 - I270))/(4 R), where the frames stand beside R, iR, -R and -iR."""
    field = torch.randn(2, 5, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    reference = torch.full((1, 1), 3.0, dtype=torch.float64)
    frames = torch.stack([(field + r * 3.0).abs().square() for r in (1, 1j, -1, -1j)], -3)
    assert torch.allclose(four_step_field(frames, reference), field)


def test_a_level_fixes_exposure_and_reference() -> None:
    conditions = Conditions(full_well=1e4, adc_bits=8, shot_noise=False)
    first = simulate_pass(IMAGE, KERNEL, conditions=conditions)
    dim = simulate_pass(IMAGE / 8, KERNEL, conditions=conditions, peak=1.0, level=first.level)
    alone = simulate_pass(IMAGE / 8, KERNEL, conditions=conditions)
    wanted = conv2d(IMAGE[None, None] / 8, KERNEL[None, None])[0, 0]
    assert float((dim.answer - wanted).norm()) > 4 * float((alone.answer - wanted).norm())


def test_small_blocks_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    conditions = Conditions(electrons=1e4, adc_bits=8, shot_noise=False, prnu=0.01, contrast=100.0)
    inputs = torch.randn(4, 6, 9, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight = torch.randn(10, 6, 3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def convolved(scheme: str, accumulate: str) -> PassResult:
        masks = conv_masks(
            weight, (9, 10), Geometry(), scheme=scheme, conditions=conditions, accumulate=accumulate
        )  # pyright: ignore
        return optical_conv2d(inputs, masks, accumulate=accumulate, signs="pair")  # pyright: ignore

    cases = [(scheme, where) for scheme in SCHEMES for where in ("electronic", "optical")]
    whole = [convolved(*case) for case in cases]
    monkeypatch.setattr(camera, "_BLOCK", 500)
    monkeypatch.setattr(observe, "_MOST_VALUES", 20_000)
    for case, expected in zip(cases, whole, strict=True):
        got = convolved(*case)
        assert torch.allclose(got.answer, expected.answer, atol=1e-10)
        assert torch.allclose(got.level, expected.level)
        assert got.saturated == pytest.approx(expected.saturated, abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_of_an_ideal_pass_are_those_of_a_convolution(scheme: str) -> None:
    """Through intensities, roots and references."""
    counted = Conditions(electrons=1e6, shot_noise=False)
    leaves = [IMAGE[:9, :9].clone().requires_grad_(), KERNEL[:3, :3].clone().requires_grad_()]
    others = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    weights = torch.randn(7, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    peak = float(IMAGE[:9, :9].max())
    (simulate_pass(*leaves, scheme=scheme, conditions=counted, peak=peak).answer * weights).sum().backward()
    (conv2d(others[0][None, None], others[1][None, None])[0, 0] * weights).sum().backward()
    for got, wanted in zip(leaves, others, strict=True):
        assert got.grad is not None
        assert wanted.grad is not None
        assert torch.allclose(got.grad, wanted.grad, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gradients_pass_bits_and_noise(scheme: str, encoding: str) -> None:
    noisy = Conditions(
        electrons=1e3, read_noise=2.0, adc_bits=4, input_bits=4, mask_bits=4, defocus=0.05, phase_drift=0.1
    )
    tile = IMAGE[:9, :9].float().clone().requires_grad_()
    kernel = KERNEL[:3, :3].float().clone().requires_grad_()
    generator = torch.Generator().manual_seed(6)
    simulate_pass(
        tile,
        kernel,
        scheme=scheme,
        encoding=encoding,
        conditions=noisy,
        generator=generator,  # pyright: ignore
    ).answer.square().sum().backward()
    for leaf in (tile, kernel):
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())
        assert float(leaf.grad.abs().max()) > 0
