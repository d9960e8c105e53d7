"""V1 and V12: an ideal pass is the convolution of torch, and tiles do not know of each other."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fourfold.errors import UsageError
from fourfold.runtimes.optical4f.conditions import Conditions
from fourfold.runtimes.optical4f.convolve import Accumulate, Geometry, conv_masks, optical_conv2d
from fourfold.runtimes.optical4f.detection import SCHEMES, bias
from fourfold.runtimes.optical4f.plane import Window
from fourfold.runtimes.optical4f.simulate import Signs, simulate_pass

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Of the specification: relative L2 error of an ideal pass."""


def off(answer: Tensor, wanted: Tensor) -> float:
    return float((answer - wanted).norm() / wanted.norm())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (4, 2), (7, 7)])
@pytest.mark.parametrize("padding", ["full", "same", "valid"])
def test_a_pass_is_a_correlation(
    dtype: torch.dtype, scheme: str, kernel: tuple[int, int], padding: str
) -> None:
    k, l = kernel  # noqa: E741
    inputs = torch.rand(3, 13, 10, generator=seeded(1), dtype=dtype)
    weight = torch.randn(kernel, generator=seeded(2), dtype=dtype)
    sides = {
        "full": (k - 1, l - 1) * 2,
        "same": ((k - 1) // 2, (l - 1) // 2, k // 2, l // 2),
        "valid": (0,) * 4,
    }
    top, left, below, right = sides[padding]
    padded = torch.nn.functional.pad(inputs, (left, right, top, below))
    window = Window((top, left, below, right))
    answer = simulate_pass(inputs, weight, scheme=scheme, window=window, shortcut=False).answer
    wanted = conv2d(padded[:, None], weight[None, None])[:, 0]
    # What light computes is the correlation with the biased kernel: its digits are those of that field.
    lifted = weight + bias(weight) if scheme == "kernel-bias" else weight
    field = conv2d(padded[:, None], lifted[None, None])[:, 0]
    assert float((answer - wanted).norm() / field.norm()) <= TOLERANCE[dtype]
    # Of the signed answer, the bias takes digits.
    assert off(answer, wanted) <= TOLERANCE[dtype] * (5 if scheme == "kernel-bias" else 1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scheme", ["homodyne", "pseudo-negative"])
@pytest.mark.parametrize("accumulate", ["electronic", "optical"])
@pytest.mark.parametrize(
    ("groups", "stride", "dilation"), [(1, (1, 1), (1, 1)), (2, (2, 1), (1, 2)), (6, (3, 2), (2, 2))]
)
def test_a_convolution_of_any_geometry(
    dtype: torch.dtype,
    scheme: str,
    accumulate: Accumulate,
    groups: int,
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    inputs = torch.randn(3, 6, 11, 9, generator=seeded(3), dtype=dtype)
    weight = torch.randn(12, 6 // groups, 3, 2, generator=seeded(4), dtype=dtype)
    geometry = Geometry(Window((2, 1, 2, 1), stride), dilation, groups)
    masks = conv_masks(weight, (11, 9), geometry, scheme=scheme, accumulate=accumulate)
    answer = optical_conv2d(inputs, masks, geometry.window, accumulate=accumulate, signs="pair").answer
    wanted = conv2d(inputs, weight, stride=stride, padding=(2, 1), dilation=dilation, groups=groups)
    assert answer.shape == wanted.shape
    assert off(answer, wanted) <= TOLERANCE[dtype]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("signs", ["pair", "offset"])
def test_signed_inputs(scheme: str, signs: Signs) -> None:
    inputs = torch.randn(2, 1, 9, 8, generator=seeded(5), dtype=torch.float64)
    weight = torch.randn(4, 3, 3, generator=seeded(6), dtype=torch.float64)
    answer = simulate_pass(inputs, weight, scheme=scheme, signs=signs, window=Window((1,) * 4)).answer
    assert off(answer, conv2d(inputs, weight[:, None], padding=1)) <= 1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_camera_without_noise_changes_nothing(scheme: str) -> None:
    """Through intensities and back, instead of the short cut that an ideal camera takes."""
    counted = Conditions(electrons=1e4, shot_noise=False)
    inputs = torch.rand(2, 9, 8, generator=seeded(7), dtype=torch.float64)
    weight = torch.randn(3, 3, generator=seeded(8), dtype=torch.float64)
    answer = simulate_pass(inputs, weight, scheme=scheme, conditions=counted).answer
    assert off(answer, conv2d(inputs[:, None], weight[None, None])[:, 0]) <= 1e-7


@pytest.mark.parametrize("padding", [(1, 2, 1, 2), (2, 0, 1, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_the_short_cut_of_an_ideal_pass(padding: tuple[int, int, int, int], stride: tuple[int, int]) -> None:
    inputs = torch.randn(5, 9, 8, generator=seeded(16), dtype=torch.float64)
    weight = torch.randn(3, 2, generator=seeded(17), dtype=torch.float64)
    short, long = (
        simulate_pass(inputs, weight, window=Window(padding, stride), signs="phase", shortcut=shortcut)
        for shortcut in (True, False)
    )
    assert off(short.answer, long.answer) <= 1e-12
    assert torch.allclose(short.level, long.level)
    assert (short.level.shape, short.frames) == (long.level.shape, long.frames)
    with pytest.raises(UsageError, match="expected a kernel within"):
        simulate_pass(inputs[:, :2], weight, signs="phase")


def test_all_flips_are_told_apart() -> None:
    """An asymmetric image under an asymmetric kernel, beside the three wrong flips."""
    inputs = torch.rand(1, 8, 8, generator=seeded(9), dtype=torch.float64)
    weight = torch.randn(3, 3, generator=seeded(10), dtype=torch.float64)
    answer = simulate_pass(inputs, weight, shortcut=False).answer[None]
    errors = [
        off(answer, conv2d(inputs[None], weight.flip(axes)[None, None])) for axes in ((), (0,), (1,), (0, 1))
    ]
    assert errors[0] <= 1e-12
    assert min(errors[1:]) > 0.1


def test_two_forward_transforms_give_the_image_upside_down() -> None:
    """What lenses do, against the plane model's inverse transform: the same field at -x."""
    inputs = torch.rand(16, 16, generator=seeded(11), dtype=torch.float64)
    mask = torch.fft.fft2(torch.randn(16, 16, generator=seeded(12), dtype=torch.float64))
    seen = torch.fft.fft2(torch.fft.fft2(inputs) * mask) / 256
    upright = torch.fft.ifft2(torch.fft.fft2(inputs) * mask)
    assert torch.allclose(seen.flip((0, 1)).roll((1, 1), (0, 1)), upright, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_permuting_the_batch_permutes_the_answer(scheme: str, batch: int) -> None:
    inputs = torch.rand(batch, 4, 10, 10, generator=seeded(13), dtype=torch.float64)
    weight = torch.randn(6, 4, 3, 3, generator=seeded(14), dtype=torch.float64)
    order, channels = torch.randperm(batch, generator=seeded(15)), torch.tensor([2, 0, 3, 1])
    straight = optical_conv2d(inputs, conv_masks(weight, (10, 10), scheme=scheme)).answer
    mixed = optical_conv2d(
        inputs[order][:, channels], conv_masks(weight[:, channels], (10, 10), scheme=scheme)
    ).answer
    assert off(mixed, straight[order]) <= 1e-14


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("batch", "channels", "size"), [(2, 1, 10), (5, 3, 17), (9, 4, 31)])
def test_permuting_the_batch_permutes_the_answer_to_the_last_bit(
    dtype: torch.dtype, scheme: str, batch: int, channels: int, size: int
) -> None:
    """Without shortcuts: else neighbours share a transform, and with it the last bit."""
    inputs = torch.rand(batch, channels, size, size, generator=seeded(16), dtype=dtype)
    weight = torch.randn(6, channels, 3, 3, generator=seeded(17), dtype=dtype)
    masks, order = conv_masks(weight, (size, size), scheme=scheme), torch.arange(batch).roll(1)
    straight = optical_conv2d(inputs, masks, shortcut=False).answer
    assert torch.equal(optical_conv2d(inputs[order], masks, shortcut=False).answer, straight[order])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_tile_knows_of_another_to_the_last_bit(dtype: torch.dtype, scheme: str) -> None:
    """All tiles change but two neighbours, whose real fields share one complex transform and its rounding.

    The modulator is set up once: else the brightest tile sets the range of all.
    """
    inputs = torch.rand(5, 4, 10, 10, generator=seeded(13), dtype=dtype)
    weight = torch.randn(6, 4, 3, 3, generator=seeded(14), dtype=dtype)
    masks = conv_masks(weight, (10, 10), scheme=scheme)
    before = optical_conv2d(inputs, masks, peak=1.0).answer
    for pair in (slice(0, 2), slice(2, 4), slice(4, 5)):
        others = torch.rand(inputs.shape, generator=seeded(20 + pair.start), dtype=dtype)
        others[pair] = inputs[pair]
        assert torch.equal(optical_conv2d(others, masks, peak=1.0).answer[pair], before[pair])


def test_an_empty_kernel_and_dark_tiles() -> None:
    for scheme in SCHEMES:
        noisy = Conditions(electrons=100.0, adc_bits=8)
        answer = simulate_pass(
            torch.zeros(2, 5, 5), torch.zeros(3, 3), scheme=scheme, conditions=noisy
        ).answer
        assert bool(answer.isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": -torch.ones(4, 4)}, "at least 0, got -1; choose how signs are shown"),
        ({"scheme": "homodine"}, "did you mean homodyne"),
        ({"encoding": "phase"}, "expected a known encoding of the mask, got 'phase'"),
        (
            {"inputs": torch.ones(4, 4).double()},
            "both in float32 or float64, got torch.float64 and torch.float32",
        ),
        ({"inputs": torch.ones(0, 4, 4)}, "with values in them, got \\(0, 4, 4\\)"),
        ({"inputs": torch.ones(4)}, "expected tiles \\(..., h, w\\)"),
        ({"signs": "pairs"}, "expected a known way to show signs, got 'pairs'; did you mean pair"),
        ({"kernel": torch.ones(5, 5)}, "expected a kernel within the \\(4, 4\\) pixels"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"inputs": torch.ones(4, 4), "kernel": torch.ones(3, 3)} | arguments
    with pytest.raises(UsageError, match=words):
        simulate_pass(given.pop("inputs"), given.pop("kernel"), **given)


@pytest.mark.parametrize("given", [((-1, 0, 0, 0), (1, 1)), ((0, 0, 0, 0), (0, 1))])
def test_a_window_that_cannot_be_is_refused(given: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match="expected padding of at least 0 and strides of at least 1"):
        Window(*given)
