"""Every convolution and linear layer becomes passes of one shape, exactly (V1, V14)."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, linear, pad

from fourfold.runtimes.optical4f.lower import (
    Layer,
    from_answers,
    lower_conv,
    lower_linear,
    picture_size,
    to_pictures,
    token_size,
)


def passes(layer: Layer, kernels: np.ndarray, x: Tensor) -> Tensor:
    """Carry out a layer as its definition says, one group after the other."""
    pictures = to_pictures(layer, x)
    top, left, bottom, right = layer.pads
    padded = pad(pictures, (left, right, top, bottom)).chunk(layer.groups, 1)
    parts = [
        conv2d(one, torch.from_numpy(k).to(x.dtype), stride=layer.strides)
        for one, k in zip(padded, kernels, strict=True)
    ]
    return from_answers(layer, torch.cat(parts, 1), tuple(x.shape))


def off(answer: Tensor, expected: Tensor) -> float:
    assert answer.shape == expected.shape
    return float((answer - expected).abs().max() / expected.abs().max())


CASES = list(
    itertools.product([(1, 1), (2, 3)], [(1, 1), (2, 1), (3, 2)], [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3)])
)


@pytest.mark.parametrize(("strides", "dilations", "pads"), CASES)
@pytest.mark.parametrize(("groups", "kernel"), [(1, (3, 3)), (2, (2, 4)), (3, (4, 1))])
def test_a_convolution_is_met(
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    groups: int,
    kernel: tuple[int, int],
) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2 * groups, 11, 12, generator=rng, dtype=torch.float64)
    w = torch.randn(3 * groups, 2, *kernel, generator=rng, dtype=torch.float64)
    padded = pad(x, (pads[1], pads[3], pads[0], pads[2]))
    expected = conv2d(padded, w, stride=strides, dilation=dilations, groups=groups)
    layer, kernels = lower_conv(
        "c", w.numpy(), groups=groups, strides=strides, dilations=dilations, pads=pads
    )
    assert layer.outputs(11, 12) == tuple(expected.shape[2:])
    assert layer.macs(2, 11, 12) == expected.numel() * 2 * kernel[0] * kernel[1]
    assert off(passes(layer, kernels, x), expected) <= 1e-12
    assert off(passes(layer, kernels, x.float()).double(), expected) <= 1e-6


@pytest.mark.parametrize(("stride", "dilation", "pads"), [(1, 1, (0, 0)), (2, 2, (3, 1)), (3, 1, (0, 2))])
def test_a_convolution_in_one_dimension_is_met(stride: int, dilation: int, pads: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((2, 4, 13), (6, 2, 4)))
    expected = conv1d(pad(x, pads), w, stride=stride, dilation=dilation, groups=2)
    layer, kernels = lower_conv("c", w.numpy(), groups=2, strides=(stride,), dilations=(dilation,), pads=pads)
    assert picture_size(layer, (2, 4, 13)) == (2, 1, 13)
    assert off(passes(layer, kernels, x), expected) <= 1e-12


@pytest.mark.parametrize("features", [2, 5, 12, 97, 100, 512])
def test_a_linear_layer_is_valid_kernels_as_large_as_the_token(features: int) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, features, generator=rng, dtype=torch.float64)
    w = torch.randn(7, features, generator=rng, dtype=torch.float64)
    layer, kernels = lower_linear("l", w.T.numpy())
    assert kernels.shape == (1, 7, 1, *layer.kernel)
    assert layer.macs(6, *layer.kernel) == 6 * 7 * features
    assert off(passes(layer, kernels, x), linear(x, w)) <= 1e-12


@pytest.mark.parametrize(("features", "size"), [(1, (1, 1)), (16, (4, 4)), (96, (8, 12)), (97, (9, 11))])
def test_a_token_lies_as_a_rectangle_near_a_square(features: int, size: tuple[int, int]) -> None:
    assert token_size(features) == size


def test_equal_groups_are_one_set_of_kernels_that_all_share() -> None:
    rng = torch.Generator().manual_seed(0)
    one = torch.randn(2, 3, 3, 3, generator=rng, dtype=torch.float64)
    x = torch.randn(2, 12, 9, 9, generator=rng, dtype=torch.float64)
    w = torch.cat([one] * 4)
    layer, kernels = lower_conv("c", w.numpy(), groups=4, strides=(1, 1), dilations=(1, 1), pads=(1, 1, 1, 1))
    assert (layer.groups, layer.shared, layer.pictures(2), kernels.shape[:3]) == (1, 4, 8, (1, 2, 3))
    assert off(passes(layer, kernels, x), conv2d(x, w, padding=1, groups=4)) <= 1e-12


def test_groups_that_differ_in_one_number_share_nothing() -> None:
    w = np.ones((4, 1, 3, 3))
    w[3, 0, 1, 1] = 2
    layer, _ = lower_conv("c", w, groups=4, strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0))
    assert (layer.groups, layer.shared) == (4, 1)
    assert not layer.signed_kernel
