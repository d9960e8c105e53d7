"""Gaussian adaptive attention: the published product, its one-Gaussian form, sizes and names."""

import math

import pytest
import torch
from torch import Tensor, nn

import fourfold.models.gaussian_attention as family
from fourfold.models.registry import get_spec


def spread(module: nn.Module, *, offset: float, seed: int = 2) -> nn.Module:
    """Draw offsets and widths; large offsets push the sum of weights below its lower bound."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(
                offset * noise if key.endswith("mean_offsets") else noise.sign() * (0.5 + noise.abs())
            )
    return module.double().eval()


def by_formula(head: family.GaussianAttention, row: list[float]) -> tuple[list[float], float]:
    """One head on one row of numbers, number by number; also the sum of the weights before normalisation."""
    n = len(row)
    mean = sum(row) / n
    variance = sum((v - mean) ** 2 for v in row) / (n - 1) + 1e-8
    pairs = list(zip(head.mean_offsets.tolist(), head.c.tolist(), strict=True))
    product = [
        math.prod(
            math.exp(-(((v - mean - d) / math.sqrt(variance)) ** 2) / (2 * c * c))
            / math.sqrt(2 * math.pi * c * c)
            for d, c in pairs
        )
        for v in row
    ]
    total = sum(product)
    return [v * p / max(total, 1e-8) for v, p in zip(row, product, strict=True)], total


@pytest.mark.parametrize(("offset", "bounded"), [(0.3, False), (12.0, True)])
def test_head_and_its_one_gaussian_equal_the_formula(offset: float, bounded: bool) -> None:
    layer = spread(family.MultiHeadGaussianAttention(-1, 1, 5), offset=offset)
    head = layer.attention_heads[0]
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = [by_formula(head, row) for row in x.tolist()]
    expected = torch.tensor([values for values, _ in rows], dtype=torch.float64)
    assert all((total < 1e-8) == bounded for _, total in rows), "both sides of the bound are tested"
    assert expected.abs().max() > 0
    for form in (layer, layer.fused()):
        assert (form(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("heads", [1, 3, 4])
@pytest.mark.parametrize("padding", [None, 0.25])
def test_deploy_form_equals_the_trained_form(
    axis: int, heads: int, padding: float | None, folds_exactly
) -> None:
    layer = spread(family.MultiHeadGaussianAttention(axis, heads, 4, padding), offset=0.5)
    x = torch.randn(3, 10, 12, generator=torch.Generator().manual_seed(0))
    x[:, 2:5, 1:4] = 0.25
    folds_exactly(layer, x)


def test_padding_stays_as_it_is_and_counts_as_zero() -> None:
    layer = spread(family.MultiHeadGaussianAttention(1, 1, 2, padding=7.0), offset=0.5)
    x = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = torch.cat((x, torch.full((2, 3), 7.0, dtype=torch.float64)), dim=1)
    answer = layer(padded)
    assert torch.equal(answer[:, 9:], padded[:, 9:])
    mean, variance = family.moments(padded, 1, 7.0)
    zeros = torch.cat((x, torch.zeros(2, 3, dtype=torch.float64)), dim=1)
    assert torch.allclose(mean, zeros.mean(1, keepdim=True), rtol=1e-12)
    assert torch.allclose(variance, zeros.var(1, keepdim=True) + 1e-8, rtol=1e-12)


def test_last_head_takes_the_rest() -> None:
    parts = family.split_heads(torch.arange(11)[None], 1, 4)
    assert [p.shape[1] for p in parts] == [2, 2, 2, 5]


def test_offsets_of_zero_keep_the_centre_and_precisions_add() -> None:
    gaussian = family.one_gaussian(torch.zeros(2), torch.tensor([1.0, -0.5]))
    assert gaussian.precision == 5
    assert gaussian.centre == 0 == gaussian.spread


def test_one_gaussian_survives_half_precision() -> None:
    layer = spread(family.MultiHeadGaussianAttention(-1, 1, 5), offset=0.1)
    with torch.no_grad():
        layer.attention_heads[0].c.fill_(4)  # five factors of 0.1, squares of 2.5e-3 fall below 6e-8
    x = torch.randn(2, 40, generator=torch.Generator().manual_seed(0)).double()
    expected = layer(x)
    half = layer.fused().half()(x.half()).double()
    assert (half - expected).abs().max() <= 5e-3 * expected.abs().max()


def test_published_block_has_120_parameters_and_public_names() -> None:
    block = family.published_block()
    assert sum(p.numel() for p in block.parameters()) == 120 == get_spec("gaussian_block").params
    names = {
        f"layers.{i}.attention_heads.{j}.{n}"
        for i in range(3)
        for j in range(4)
        for n in ("c", "mean_offsets")
    }
    assert set(block.state_dict()) == names


def test_block_adds_each_layer_to_its_input() -> None:
    block = spread(family.GaussianBlock((1, 2), (2, 3), (2, 2)), offset=0.5)
    x = torch.randn(2, 6, 9, dtype=torch.float64)
    first: Tensor = x + block.layers[0](x)
    assert torch.equal(block(x), first + block.layers[1](first))


def test_nano_is_small() -> None:
    assert 100_000 <= sum(p.numel() for p in family.nano().parameters()) <= 600_000


def test_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    torch.manual_seed(1)
    answers_alone(randomise(family.nano()), torch.randn(3, 1, 28, 28))
    answers_alone(randomise(family.published_block()), torch.randn(3, 10, 32))
