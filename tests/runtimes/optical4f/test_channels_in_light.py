"""Channels that add in the light, pixels read alone, and negative fields: all are the convolution."""

import pytest
import torch
from torch.nn.functional import conv2d

from fourfold.errors import UsageError
from fourfold.runtimes.optical4f.conditions import Conditions
from fourfold.runtimes.optical4f.convolve import Geometry, conv_masks, optical_conv2d
from fourfold.runtimes.optical4f.plane import Window
from fourfold.runtimes.optical4f.simulate import simulate_pass


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("scheme", ["homodyne", "reference", "phase-shifting"])
@pytest.mark.parametrize("kernel", [(5, 4), (3, 3)], ids=["one pixel", "many pixels"])
@pytest.mark.parametrize("groups", [1, 2])
def test_negative_fields_are_phases(scheme: str, kernel: tuple[int, int], groups: int) -> None:
    x, w = normal(3, 4, 5, 4, seed=0), normal(6, 4 // groups, *kernel, seed=1)
    masks = conv_masks(w, (5, 4), Geometry(groups=groups), scheme=scheme, accumulate="optical")
    answer = optical_conv2d(x, masks, accumulate="optical", signs="phase").answer
    expected = conv2d(x, w, groups=groups)
    assert (answer - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("scheme", ["homodyne", "pseudo-negative", "incoherent"])
def test_a_pixel_read_alone_is_that_of_the_whole_field(scheme: str) -> None:
    x, w = normal(3, 4, 7, 7, seed=0), normal(5, 4, 7, 7, seed=1)
    bits = Conditions(mask_bits=4, input_bits=4)
    alone = conv_masks(w, (7, 7), scheme=scheme, conditions=bits, accumulate="optical")
    wider = Window((0, 0, 1, 1))
    whole = conv_masks(w, (7, 7), Geometry(wider), scheme=scheme, conditions=bits, accumulate="optical")
    assert alone.size == whole.size
    first = optical_conv2d(x, alone, accumulate="optical", signs="pair").answer
    field = optical_conv2d(x, whole, wider, accumulate="optical", signs="pair").answer
    torch.testing.assert_close(first, field[..., :1, :1], rtol=1e-10, atol=1e-10)


def test_gradients_reach_weights_through_one_pixel() -> None:
    x, w = normal(2, 3, 4, 4, seed=0), normal(5, 3, 4, 4, seed=1).requires_grad_()
    masks = conv_masks(w, (4, 4), accumulate="optical")
    optical_conv2d(x, masks, accumulate="optical", signs="phase").answer.square().sum().backward()
    other = w.detach().clone().requires_grad_()
    conv2d(x, other).square().sum().backward()
    assert w.grad is not None
    torch.testing.assert_close(w.grad, other.grad)


@pytest.mark.parametrize("scheme", ["pseudo-negative", "kernel-bias", "incoherent"])
def test_schemes_that_lose_the_sign_of_a_field_refuse_phases(scheme: str) -> None:
    with pytest.raises(UsageError, match=f"a linear scheme of coherent light .*, got {scheme}"):
        simulate_pass(normal(1, 5, 5, seed=0), normal(3, 3, seed=1), scheme=scheme, signs="phase")
