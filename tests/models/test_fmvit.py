"""The FMViT-style hybrid: every named part against its formula, and the deploy forms."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.fmvit as family
from fourfold.models.registry import get_spec

SMALL = replace(
    family.NANO, dims=(16, 32), fusions=(1, 1), mixings=(0, 1), pools=(1, 2), group_width=8, head_width=8
)
BRANCHES = {
    "grouped": (8, 8, ((3, 2), (5, 2), (3, 4), (1, 8)), 1),
    "dense": (8, 12, ((1, 1), (1, 2), (1, 4)), 1),
    "strided": (6, 8, ((3, 1), (1, 2)), 2),
    "pointwise": (6, 6, ((1, 3),), 1),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def close(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-12 * expected.abs().max())


@pytest.mark.parametrize("name", BRANCHES)
def test_multi_group_sums_its_branches_and_deploys_as_one(name: str, randomise, folds_exactly) -> None:
    inputs, outputs, branches, stride = BRANCHES[name]
    module = randomise(family.MultiGroup(inputs, outputs, branches, stride)).double()
    x = torch.randn(3, inputs, 9, 7, dtype=torch.float64)
    total = 0
    for conv, norm in zip(module.convs, module.norms, strict=True):
        y = F.conv2d(x, conv.weight, stride=stride, padding=conv.kernel_size[0] // 2, groups=conv.groups)
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        total = (
            total + (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        )
    assert (module.identity is not None) == (inputs == outputs and stride == 1)
    expected = total if module.identity is None else total + module.identity(x)
    assert close(module(x), expected)
    folds_exactly(module, x)
    assert isinstance(module.fused(), nn.Conv2d)


def test_groups_of_the_deploy_form_are_the_widest() -> None:
    module = family.MultiGroup(32, 32, family.grouped(32, 8, (3, 5)))
    folded = module.eval().fused()
    assert (folded.groups, folded.kernel_size) == (4, (5, 5))


def test_attention_equals_its_formula_and_deploys_in_one_step(randomise, folds_exactly) -> None:
    module = randomise(family.LightAttention(12, 8, heads=2, pool=2)).double()
    with torch.no_grad():
        for conv in module.q.convs:
            conv.weight.mul_(4)  # attention must not be uniform
    x = torch.randn(2, 12, 6, 7, dtype=torch.float64)
    narrow = module.narrow(x)
    squares = narrow[:, :, :, :6].unflatten(3, (3, 2)).unflatten(2, (3, 2)).mean((3, 5))
    k, v = module.kv(squares).split(8, dim=1)
    heads = [t.flatten(2).unflatten(1, (2, 4)).mT for t in (module.q(narrow), k, v)]
    expected = F.scaled_dot_product_attention(*heads).mT.reshape(2, 8, 6, 7)
    assert close(module(x), expected)
    folds_exactly(module, x)


@pytest.mark.parametrize("kind", [family.MixingBlock, family.FusionBlock])
def test_blocks_deploy_exactly(kind: type[nn.Module], randomise, folds_exactly) -> None:
    folds_exactly(randomise(kind(SMALL, 1)), torch.randn(2, 32, 6, 6))


def test_network_deploys_exactly_without_norms(randomise, folds_exactly) -> None:
    model = randomise(family.fmvit(SMALL))
    folds_exactly(model, torch.randn(2, 1, 28, 28))
    folded = model.fused()
    assert not any(
        isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | family.MultiGroup) for m in folded.modules()
    )


def test_deploy_form_costs_less() -> None:
    model = family.fmvit(family.NANO).eval()
    costs: list[int] = []
    for form in (model, model.fused()):
        with FlopCounterMode(display=False) as counter:
            form(torch.zeros(1, 1, 28, 28))
        costs.append(counter.get_total_flops())
    assert costs[1] < 0.75 * costs[0]


def test_every_member_says_that_it_is_unverified() -> None:
    for name in ("fmvit_style", "fmvit_nano"):
        assert get_spec(name).checked.startswith("FMViT-style, unverified")
        assert get_spec(name).params is None


def test_nano_is_small_and_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    model = randomise(family.fmvit(family.NANO))
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 600_000
    answers_alone(model, torch.randn(3, 1, 28, 28))
