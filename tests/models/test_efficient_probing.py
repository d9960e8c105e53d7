"""Efficient Probing: sizes, an independent forward, the deploy form, and backbones to put it on."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.efficient_probing as family
from fourfold.errors import BuildError
from fourfold.models.attach import Attached, to_tokens
from fourfold.models.registry import get_spec

SIZES = {
    "ep_s": ((384,), 159_744, 544_744),
    "ep_b": ((768,), 614_400, 1_383_400),
    "ep_l": ((1024,), 1_081_344, 2_106_344),
    "ep_b_16": ((768, 16), 602_112, 1_371_112),
    "ep_b_half": ((768, 32, 2), 319_488, 704_488),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts_are_exact(name: str) -> None:
    sizes, pooling, head = SIZES[name]
    with torch.device("meta"):
        assert count(family.EfficientProbing(*sizes)) == pooling
        assert count(get_spec(name).build()) == head == get_spec(name).params


def test_names_are_those_of_the_public_code() -> None:
    model = Attached(nn.Identity(), family.ProbeHead(32, classes=4, queries=4))
    norm = {f"head.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(model.state_dict()) == {
        "head.0.cls_token",
        "head.0.v.weight",
        *norm,
        "head.2.weight",
        "head.2.bias",
    }


def by_formula(head: family.ProbeHead, x: Tensor) -> Tensor:
    """Query by query."""
    pool, norm, linear = head
    queries, dim = pool.cls_token.shape[1:]
    width = pool.v.out_features // queries
    slices: list[Tensor] = []
    for m in range(queries):
        scores = x @ pool.cls_token[0, m] / dim**0.5
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        values = x @ pool.v.weight[m * width : (m + 1) * width].T
        slices.append((weights[..., None] * values).sum(1))
    out = (torch.cat(slices, 1) - norm.running_mean) / (norm.running_var + 1e-6).sqrt()
    return out @ linear.weight.T + linear.bias


@pytest.mark.parametrize("narrower", [1, 2])
def test_head_and_its_deploy_form_equal_the_formula(narrower: int, randomise, folds_exactly) -> None:
    head = randomise(family.ProbeHead(48, classes=5, queries=6, narrower=narrower)).double()
    with torch.no_grad():
        head[0].cls_token.mul_(200)  # attention must not be uniform
    x = torch.randn(3, 10, 48, dtype=torch.float64)
    expected = by_formula(head, x)
    assert (head(x) - expected).abs().max() <= 1e-12 * expected.abs().max()
    folds_exactly(head, x)


def test_deploy_form_costs_a_fraction() -> None:
    with torch.device("meta"):
        pool = family.EfficientProbing(768).eval()
        x = torch.empty(1, 196, 768)
    costs: list[int] = []
    for form in (pool, family.FusedProbing(pool.cls_token, pool.v.weight)):
        with FlopCounterMode(display=False) as counter:
            form(x)
        costs.append(counter.get_total_flops() // 2)
    assert costs == [32 * 196 * 768 + 196 * 768**2 + 196 * 768, 2 * 32 * 196 * 768 + 768**2]


def test_queries_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(BuildError, match="expected a width that 2 x 32 divides"):
        family.EfficientProbing(96, queries=32, narrower=2)


def test_every_layout_of_features_gives_the_same_tokens() -> None:
    tokens = torch.randn(2, 12, 8)
    last = tokens.unflatten(1, (3, 4))
    assert torch.equal(to_tokens(last, "maps_last"), tokens)
    assert torch.equal(to_tokens(last.permute(0, 3, 1, 2), "maps"), tokens)
    assert torch.equal(to_tokens(tokens, "tokens"), tokens)


def test_pooled_features_are_refused() -> None:
    with pytest.raises(BuildError, match="expected features of 3 axes"):
        to_tokens(torch.randn(2, 8), "tokens")


def test_nano_is_small_and_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    model = randomise(family.nano())
    assert 100_000 <= count(model) <= 600_000
    answers_alone(model, torch.randn(3, 1, 28, 28))
