"""Every fold against torch in float64, with random weights and sizes from degenerate to large."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.errors import BuildError
from fourfold.models.fuse import (
    Affine,
    Kernel,
    affine_of,
    chain,
    identity_kernel,
    pad_kernel,
    regroup,
    scale_inputs,
    scale_outputs,
)
from fourfold.models.fuse_modules import (
    add_identity,
    fold_conv_norm,
    fold_linear_norm,
    fold_norm_conv,
    fold_norm_linear,
    merge_parallel,
    scale_conv,
    scale_linear,
)

TIGHT = 1e-12
SIZES = [(1, 1, 1, 1), (4, 4, 4, 3), (4, 8, 4, 1), (6, 4, 2, 3), (8, 8, 1, 5), (48, 96, 3, 3), (1, 5, 1, 7)]
"""(inputs, outputs, groups, kernel), from one channel and one tap to many."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


def randomised(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value that no fold can get right by accident."""
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            if value.is_floating_point():
                value.normal_()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_var is not None:
                norm.running_var.uniform_(0.05, 3)
    return module.double().eval()


def conv(inputs: int, outputs: int, groups: int, kernel: int, **options: object) -> nn.Conv2d:
    options = {"padding": kernel // 2, "groups": groups} | options
    made = randomised(nn.Conv2d(inputs, outputs, kernel, **options))
    assert isinstance(made, nn.Conv2d)
    return made


def norm2d(channels: int, **options: object) -> nn.BatchNorm2d:
    made = randomised(nn.BatchNorm2d(channels, eps=1e-3, **options))
    assert isinstance(made, nn.BatchNorm2d)
    return made


def image(channels: int, size: int = 11) -> Tensor:
    return torch.randn(2, channels, size, size + 2, dtype=torch.float64)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    scale = expected.abs().max().item()
    assert scale > 1e-3, "the reference says nothing"
    assert (actual - expected).abs().max().item() <= TIGHT * scale


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "groups", "kernel"), SIZES)
def test_norm_folds_into_the_convolution_before_it(
    inputs: int, outputs: int, groups: int, kernel: int, bias: bool
) -> None:
    first, norm, x = conv(inputs, outputs, groups, kernel, bias=bias), norm2d(outputs), image(inputs)
    assert_close(fold_conv_norm(first, norm)(x), norm(first(x)))


def test_norm_without_scale_and_shift_folds() -> None:
    first, norm, x = conv(4, 6, 2, 3, stride=2, dilation=2), norm2d(6, affine=False), image(4)
    assert_close(fold_conv_norm(first, norm)(x), norm(first(x)))


def test_norm_without_statistics_is_refused() -> None:
    with pytest.raises(BuildError, match="running statistics"):
        affine_of(nn.BatchNorm2d(3, track_running_stats=False))


@pytest.mark.parametrize(("inputs", "outputs", "groups", "kernel"), SIZES)
def test_norm_folds_into_the_unpadded_convolution_after_it(
    inputs: int, outputs: int, groups: int, kernel: int
) -> None:
    norm, second, x = norm2d(inputs), conv(inputs, outputs, groups, kernel, padding=0), image(inputs)
    assert_close(fold_norm_conv(norm, second)(x), second(norm(x)))


def test_norm_before_a_padded_convolution_is_refused() -> None:
    with pytest.raises(BuildError, match="padding 1"):
        fold_norm_conv(norm2d(4), conv(4, 4, 1, 3))


def test_pure_scale_folds_into_a_padded_convolution() -> None:
    second, scale, x = conv(4, 6, 2, 3), torch.randn(4, dtype=torch.float64), image(4)
    affine = Affine(scale, torch.zeros(4, dtype=torch.float64))
    weight, bias = scale_inputs(second.weight, second.bias, affine, groups=2, padding=1)
    folded = F.conv2d(x, weight, bias, padding=1, groups=2)
    assert_close(folded, second(x * scale[:, None, None]))


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (5, 3), (64, 128)])
def test_norm_folds_into_linear_layers_on_both_sides(inputs: int, outputs: int) -> None:
    linear = randomised(nn.Linear(inputs, outputs))
    before, after = randomised(nn.BatchNorm1d(inputs)), randomised(nn.BatchNorm1d(outputs))
    assert isinstance(linear, nn.Linear)
    assert isinstance(before, nn.BatchNorm1d)
    assert isinstance(after, nn.BatchNorm1d)
    x = torch.randn(7, inputs, dtype=torch.float64)
    assert_close(fold_norm_linear(before, linear)(x), linear(before(x)))
    assert_close(fold_linear_norm(linear, after)(x), after(linear(x)))


def test_layer_scale_folds_into_linear_and_convolution() -> None:
    gamma, linear, first = torch.randn(6, dtype=torch.float64), randomised(nn.Linear(4, 6)), conv(4, 6, 2, 3)
    assert isinstance(linear, nn.Linear)
    x, maps = torch.randn(5, 4, dtype=torch.float64), image(4)
    assert_close(scale_linear(linear, gamma)(x), gamma * linear(x))
    assert_close(scale_conv(first, gamma)(maps), gamma[:, None, None] * first(maps))


@pytest.mark.parametrize(("channels", "groups", "kernel"), [(1, 1, 1), (6, 6, 3), (6, 2, 5), (8, 1, 3)])
def test_identity_folds_into_the_convolution_beside_it(channels: int, groups: int, kernel: int) -> None:
    first, x = conv(channels, channels, groups, kernel), image(channels)
    assert_close(add_identity(first)(x), x + first(x))


def test_identity_kernel_is_exact() -> None:
    kernel, x = identity_kernel(6, (3, 5), groups=2, like=torch.zeros(1, dtype=torch.float64)), image(6)
    assert torch.equal(F.conv2d(x, kernel.weight, kernel.bias, padding=(1, 2), groups=2), x)


@pytest.mark.parametrize(
    "bad", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"padding_mode": "reflect"}], ids=str
)
def test_identity_beside_a_convolution_that_moves_pixels_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(BuildError):
        add_identity(conv(4, 4, 1, 3, **bad))


def test_identity_without_centre_is_refused() -> None:
    with pytest.raises(BuildError, match="odd"):
        identity_kernel(4, (2, 3), like=torch.zeros(1))


def test_padded_kernel_is_the_same_convolution() -> None:
    first, x = conv(4, 6, 2, 1), image(4)
    weight = pad_kernel(first.weight, (5, 3))
    assert_close(F.conv2d(x, weight, first.bias, padding=(2, 1), groups=2), first(x))


@pytest.mark.parametrize("size", [(4, 5), (1, 1), (3, 6)])
def test_kernel_pads_by_even_numbers_only(size: tuple[int, int]) -> None:
    with pytest.raises(BuildError, match="even number"):
        pad_kernel(torch.zeros(1, 1, 3, 3), size)


@pytest.mark.parametrize(("groups", "fewer"), [(6, 1), (6, 2), (6, 3), (6, 6), (1, 1)])
def test_regrouped_convolution_is_the_same(groups: int, fewer: int) -> None:
    first, x = conv(12, 18, groups, 3), image(12)
    kernel = regroup(Kernel(first.weight, first.bias, groups), fewer)
    assert kernel.weight.shape == (18, 12 // fewer, 3, 3)
    assert_close(F.conv2d(x, kernel.weight, kernel.bias, padding=1, groups=fewer), first(x))


def test_regrouping_into_other_groups_is_refused() -> None:
    with pytest.raises(BuildError, match="divisor of 4"):
        regroup(Kernel(torch.zeros(4, 1, 1, 1), torch.zeros(4), 4), 3)


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2}, {"dilation": 2}, {"bias": False}],
    ids=str,
)
def test_parallel_convolutions_of_different_size_and_groups_merge(options: dict[str, object]) -> None:
    dilation = int(str(options.get("dilation", 1)))
    convs = [
        conv(12, 24, groups, kernel, **({"padding": dilation * (kernel // 2)} | options))
        for groups, kernel in ((4, 1), (6, 3), (12, 5), (4, 5))
    ]
    x, merged = image(12, size=14), merge_parallel(convs)
    assert merged.groups == 2
    assert_close(merged(x), torch.stack([c(x) for c in convs]).sum(0))


def test_parallel_convolutions_of_one_channel_merge() -> None:
    convs, x = [conv(1, 1, 1, k) for k in (1, 3)], image(1)
    assert_close(merge_parallel(convs)(x), convs[0](x) + convs[1](x))


def test_padding_by_name_merges() -> None:
    convs, x = [conv(3, 3, 1, 3, padding="same"), conv(3, 3, 3, 1, padding="valid")], image(3)
    assert_close(merge_parallel(convs)(x), convs[0](x) + convs[1](x))


def test_rectangular_kernels_merge() -> None:
    wide = randomised(nn.Conv2d(4, 4, (1, 5), padding=(0, 2)))
    tall = randomised(nn.Conv2d(4, 4, (3, 1), padding=(1, 0), groups=2))
    assert isinstance(wide, nn.Conv2d)
    assert isinstance(tall, nn.Conv2d)
    x = image(4)
    assert_close(merge_parallel([wide, tall])(x), wide(x) + tall(x))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"stride": 2}, "stride"),
        ({"dilation": 2, "padding": 2}, "dilation"),
        ({"padding": 0}, "centre"),
        ({"padding_mode": "circular"}, "zeros"),
        ({"outputs": 8}, "same channels"),
    ],
)
def test_parallel_convolutions_that_differ_are_refused(other: dict[str, object], why: str) -> None:
    outputs = int(str(other.pop("outputs", 4)))
    with pytest.raises(BuildError, match=why):
        merge_parallel([conv(4, 4, 1, 3), conv(4, outputs, 1, 3, **other)])


def test_even_beside_odd_kernel_is_refused() -> None:
    with pytest.raises(BuildError, match="centre"):
        merge_parallel([conv(4, 4, 1, 3), conv(4, 4, 1, 4, padding=1)])


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(BuildError, match="at least one"):
        merge_parallel([])


def kernel(module: nn.Conv2d) -> Kernel:
    assert module.bias is not None
    return Kernel(module.weight, module.bias, module.groups)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((6, 12, 1, 1), (12, 4, 1, 1)),
        ((6, 12, 3, 1), (12, 12, 6, 1)),
        ((6, 12, 2, 1), (12, 9, 3, 3)),
        ((6, 12, 2, 3), (12, 8, 4, 1)),
        ((12, 12, 12, 5), (12, 12, 1, 1)),
    ],
)
def test_convolutions_in_a_row_join(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    one, two = conv(*first, padding=0), conv(*second, padding=0)
    x, joined = image(first[0]), chain(kernel(one), kernel(two))
    assert_close(F.conv2d(x, joined.weight, joined.bias, groups=joined.groups), two(one(x)))


def test_padding_before_the_pointwise_convolution_is_kept() -> None:
    one, two, x = conv(4, 6, 2, 3, stride=2), conv(6, 5, 1, 1), image(4)
    joined = chain(kernel(one), kernel(two))
    assert_close(F.conv2d(x, joined.weight, joined.bias, stride=2, padding=1), two(one(x)))


def test_padding_after_a_bias_is_refused_and_without_bias_is_exact() -> None:
    one, two, x = conv(4, 6, 1, 1), conv(6, 5, 1, 3), image(4)
    with pytest.raises(BuildError, match="no bias before a padding"):
        chain(kernel(one), kernel(two), padding=1)
    plain = Kernel(one.weight, torch.zeros(6, dtype=torch.float64), 1)
    joined = chain(plain, kernel(two), padding=1)
    assert_close(F.conv2d(x, joined.weight, joined.bias, padding=1), two(F.conv2d(x, one.weight)))


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [((4, 4, 1, 3), (4, 4, 1, 3), "a 1x1 among"), ((4, 6, 1, 1), (4, 4, 1, 1), "channels between")],
)
def test_other_rows_are_refused(first: tuple[int, ...], second: tuple[int, ...], why: str) -> None:
    with pytest.raises(BuildError, match=why):
        chain(kernel(conv(*first)), kernel(conv(*second)))


def test_error_stays_within_the_stated_bound_in_float32() -> None:
    """One rounding of the exact float64 value: |error| <= 2^-24 |w| besides 2 (n + 1) 2^-53 S."""
    first, norm = conv(8, 16, 2, 3).float(), norm2d(16).float()
    scale, shift = affine_of(norm)
    weight, bias = scale_outputs(first.weight, first.bias, scale, shift)
    assert weight.dtype == bias.dtype == torch.float32
    exact = first.weight.detach().double() * scale[:, None, None, None]
    assert ((weight.double() - exact).abs() <= 2**-24 * exact.abs() * (1 + 1e-12)).all()
    assert first.bias is not None
    terms = scale * first.bias.detach().double(), shift
    slack = 6 * 2**-53 * (terms[0].abs() + terms[1].abs())
    assert ((bias.double() - sum(terms)).abs() <= 2**-24 * sum(terms).abs() + slack).all()


def test_layers_keep_their_own_weights() -> None:
    first, norm = conv(4, 4, 1, 3), norm2d(4)
    before = first.weight.clone()
    folded = fold_conv_norm(first, norm)
    folded.weight.data.zero_()
    assert torch.equal(first.weight, before)
