"""ViT as a path ensemble: bit-equal to the vision transformer, pruning, sizes, the deploy form."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.path_ensemble as family
from fourfold.errors import BuildError
from fourfold.export.reparam import reparameterize
from fourfold.models.spec import TensorSpec

SMALL = replace(family.NANO, dim=12, heads=3, depth=3, size=12, channels=3, classes=5)
PUBLIC = {family.TINY: 5_717_416, family.SMALL: 22_050_664, family.BASE: 86_567_656}
"""Parameters of the public vision transformers at 224 pixels."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


@pytest.mark.parametrize(("config", "params"), PUBLIC.items(), ids=["ti", "s", "b"])
def test_base_has_the_public_size_and_scales_add_one_vector_for_each_path(
    config: family.PathConfig, params: int
) -> None:
    with torch.device("meta"):
        base, ensemble = family.Vit(config), family.PathEnsemble(config)
    assert sum(p.numel() for p in base.parameters()) == params
    assert sum(p.numel() for p in ensemble.parameters()) == params + 25 * config.dim


def test_scales_of_one_equal_the_vision_transformer_bit_for_bit(randomise) -> None:
    base = randomise(family.Vit(family.NANO))
    ensemble = family.PathEnsemble(family.NANO).eval()
    ensemble.model.load_state_dict(base.state_dict())
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(ensemble(x), base(x))


def test_the_vision_transformer_alone_folds(randomise) -> None:
    base = randomise(family.Vit(SMALL))
    with torch.no_grad():
        for block in base.blocks:
            block.attn.qkv.weight.mul_(4)
    folded, step = reparameterize(base, (TensorSpec("image", ("batch", 3, 12, 12)),))
    assert step.changed == SMALL.depth
    assert not any(isinstance(m, family.Block | family.Attention) for m in folded.modules())
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected, actual = base.double()(x), folded.double()(x)
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


def paths_of(base: family.Vit, x: Tensor) -> list[Tensor]:
    """What each residual branch adds, seen from outside by hooks."""
    found: list[Tensor] = [base.embed(x)]
    modules: list[nn.Module] = [m for block in base.blocks for m in (block.attn, block.mlp)]
    hooks = [m.register_forward_hook(lambda _m, _i, output: found.append(output)) for m in modules]
    base(x)
    for hook in hooks:
        hook.remove()
    return found


def pruned(*kept: int) -> family.PathConfig:
    return replace(SMALL, kept=kept)


@pytest.mark.parametrize("config", [SMALL, pruned(0, 1, 4), pruned(2, 5), pruned(3)], ids=str)
def test_ensemble_and_its_deploy_form_equal_the_weighted_sum(config, randomise, folds_exactly) -> None:
    model = randomise(family.PathEnsemble(config)).double()
    with torch.no_grad():
        for block in model.model.blocks:
            block.attn.qkv.weight.mul_(4)  # attention must not be uniform
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    found = paths_of(model.model, x)
    total = sum(model.scales[i] * found[i][:, 0] for i in config.paths)
    expected = model.model.head(model.model.norm(total))
    assert (model(x) - expected).abs().max() <= 1e-12 * expected.abs().max()
    folds_exactly(model, x)


def test_deploy_form_computes_nothing_behind_the_last_kept_path() -> None:
    costs: list[int] = []
    for config in (family.NANO, family.PRUNED, replace(family.NANO, kept=(0, 1, 2))):
        folded = family.PathEnsemble(config).fused()
        with FlopCounterMode(display=False) as counter:
            folded(torch.zeros(1, 1, 28, 28))
        costs.append(counter.get_total_flops())
    assert costs[0] > costs[1] > 2 * costs[2]
    trained = family.PathEnsemble(family.NANO)
    with FlopCounterMode(display=False) as counter:
        trained(torch.zeros(1, 1, 28, 28))
    assert costs[0] < 0.9 * counter.get_total_flops()


@pytest.mark.parametrize("kept", [(), (0,), (0, 9), (-1, 2)])
def test_impossible_paths_are_refused(kept: tuple[int, ...]) -> None:
    with pytest.raises(BuildError, match="expected paths from 0 to 6, at least one above 0"):
        family.PathEnsemble(pruned(*kept))


def test_nano_is_small_and_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    model = randomise(family.PathEnsemble(family.NANO))
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 600_000
    answers_alone(model, torch.randn(3, 1, 28, 28))
