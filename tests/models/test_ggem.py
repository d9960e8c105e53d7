"""GGeM: its formula, its limits, the deploy form in two precisions, and a backbone to put it on."""

import pytest
import torch
from torch import Tensor

import fourfold.models.ggem as family
from fourfold.errors import BuildError


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(3, 10, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def pool(*exponents: float, dim: int = 12) -> family.Ggem:
    made = family.Ggem(dim, len(exponents)).double()
    with torch.no_grad():
        made.p.copy_(torch.tensor(exponents, dtype=torch.float64))
    return made


def close(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-12 * expected.abs().max())


def test_pooling_equals_its_formula_channel_by_channel(tokens: Tensor) -> None:
    exponents = (0.7, 2.5, 4.0)
    answer = pool(*exponents)(tokens)
    for d in range(12):
        p = exponents[d // 4]
        mean = sum(max(v, 1e-6) ** p for v in tokens[1, :, d].tolist()) / 10
        assert abs(answer[1, d] - mean ** (1 / p)) <= 1e-12


def test_exponent_one_is_the_mean_of_what_is_positive(tokens: Tensor) -> None:
    assert close(pool(1.0, 1.0)(tokens), tokens.clamp(min=1e-6).mean(1))


def test_large_exponents_approach_the_maximum(tokens: Tensor) -> None:
    folded = pool(4000.0).fused()
    assert (folded(tokens) - tokens.amax(1)).abs().max() <= 2e-3 * tokens.max()


def test_one_group_is_the_generalized_mean(tokens: Tensor) -> None:
    norm = torch.linalg.vector_norm(tokens.clamp(min=1e-6), ord=2.5, dim=1) / 10 ** (1 / 2.5)
    assert close(pool(2.5)(tokens), norm)


def test_deploy_form_equals_the_trained_form(tokens: Tensor, folds_exactly) -> None:
    folds_exactly(pool(0.7, 2.5, 4.0), tokens)


def test_deploy_form_survives_half_precision(tokens: Tensor) -> None:
    large = 40 * tokens  # its eighth power is far above what half precision holds
    module = pool(8.0, 3.0)
    half = module.fused().half()(large.half()).double()
    expected = module(large)
    assert not module.half()(large.half()).isfinite().all()
    assert (half - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_head_adds_one_parameter_for_each_group() -> None:
    head = family.GgemHead(24, groups=6, classes=5)
    assert sum(p.numel() for p in head.parameters()) == 24 * 5 + 5 + 6


def test_groups_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(BuildError, match="expected groups that divide the width 10, got 4"):
        family.Ggem(10, 4)


def test_nano_is_small_and_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    torch.manual_seed(1)
    model = randomise(family.nano())
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 600_000
    answers_alone(model, torch.randn(3, 1, 28, 28))
