"""One sweep over the whole zoo: answers alike twice and in any batch, folds exactly, exports to two engines.

The small networks do the first part in every run. ``make test-zoo`` adds every published size, and takes the
small networks and at least one variant of every family to the engines; its records stay in out/zoo.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fourfold.export.reparam import fold
from fourfold.harness.swept import keep
from fourfold.models.census import census
from fourfold.models.registry import family_of, get_spec, model_names
from fourfold.models.spec import ModelSpec

COUNTED = {
    "moh_dit_l_75": "1.8 GB of weights",
    "moh_dit_l_90": "1.8 GB of weights",
    "moh_dit_xl_75": "2.7 GB of weights",
    "moh_dit_xl_90": "2.7 GB of weights",
}
"""Built and counted on the meta device only (by the test of docs/zoo.md), and why."""

FULL_SIZE = (
    "ep_b",
    "ggem_b",
    "gaussian_block",
    "ninformer",
    "fatnet_cifar100",
    "fatnet_resnet_cifar100",
    "fmvit_style",
    "path_vit_ti",
    "perceiver_mobilenet_075",
    "perceiver_reg400m",
    "perceiver_reg800m",
    "smt_t",
    "mhs_vm_4",
    "moh_vit_s_80",
    "moh_vit_b_50_skip",
    "moh_dit_s_75",
    "moh_dit_s_75_skip",
    "rsmamba_b",
    "m3vit_small_nyud",
    "m3vit_small_semseg",
    "moh_dit_b_90",
)
"""At least one variant of every family that has a published size."""

LARGE = 10**10
"""Multiply-adds above which the second batch size is 2 instead of 3."""

EXACT = 1e-11
"""Relative, in float64: thousands of sums in another order."""

OUT = Path(__file__).parents[2] / "out" / "zoo"
NANOS = tuple(name for name in model_names() if "_nano" in name)


def swept(names: Iterable[str]) -> list[object]:
    """Give names as parameters: the published sizes are for ``make test-zoo``."""
    return [pytest.param(n, marks=() if n in NANOS else pytest.mark.zoo) for n in names]


def test_every_family_is_swept() -> None:
    published = {family_of(name) for name in model_names() if name not in NANOS}
    assert {family_of(name) for name in FULL_SIZE} == published
    assert {family_of(name) for name in NANOS} == {family_of(name) for name in model_names()}
    assert set(COUNTED) | set(FULL_SIZE) <= set(model_names())


def inputs_of(spec: ModelSpec) -> list[Tensor]:
    """Two different samples; batch norm statistics and weights are random, so random pictures will do.

    Each channel has a level of its own, since what averages over many pixels of noise is alike for all noise.
    """
    generator = torch.Generator().manual_seed(5)
    made: list[Tensor] = []
    for tensor in spec.inputs:
        shape = tensor.concrete(batch=2)
        if tensor.dtype == "float32":
            levels = torch.randn((*shape[:2], *(1 for _ in shape[2:])), generator=generator)
            made.append(torch.randn(shape, generator=generator) + levels)
        else:
            drawn = torch.randint(tensor.high or 2, shape, generator=generator)
            made.append(drawn.to(getattr(torch, tensor.dtype)))
    return made


def awake(module: nn.Module, inputs: list[Tensor]) -> nn.Module:
    """Bring the statistics of all batch norms near those of what they are given: 0.5 to 1.5 times those.

    Otherwise a deep network of random weights forgets what it was asked, layer by layer.
    """
    generator = torch.Generator().manual_seed(6)

    def listen(norm: nn.Module, given: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        variance, mean = torch.var_mean(given[0], dim=(0, 2, 3))
        factor = 0.5 + torch.rand(mean.shape, generator=generator)
        norm.running_mean = mean * factor
        norm.running_var = variance.clamp(min=0.1 * float(variance.mean())) * factor

    hooks = [m.register_forward_pre_hook(listen) for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    answers_of(module, inputs)
    for hook in hooks:
        hook.remove()
    return module


def answers_of(module: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        answer = module(*inputs)
    return [answer] if isinstance(answer, Tensor) else list(answer)


def apart(answers: list[Tensor], expected: list[Tensor]) -> float:
    """Largest error over all outputs, each relative to its largest answer."""
    pairs = zip(answers, expected, strict=True)
    return max(float((a - e).abs().max() / e.abs().max()) for a, e in pairs)


@pytest.mark.parametrize("name", swept(n for n in model_names() if n not in COUNTED))
def test_model_answers_alike_in_any_batch_and_folds_exactly(name: str, randomise) -> None:
    spec = get_spec(name)
    torch.manual_seed(0)
    inputs = inputs_of(spec)
    module = awake(randomise(spec.build()), inputs)
    first, again = answers_of(module, inputs), answers_of(module, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    # In float64, where no router is undecided and a fold shows whether it is exact.
    module, inputs = module.double(), [t.double() if t.is_floating_point() else t for t in inputs]
    together = answers_of(module, inputs)
    assert apart([t[1:] for t in together], [t[:1] for t in together]) > 1e-3, "must depend on the input"
    alone = [answers_of(module, [t[i : i + 1] for t in inputs]) for i in range(2)]
    assert apart([torch.cat(parts) for parts in zip(*alone, strict=True)], together) <= EXACT
    folded, changed, refusals = fold(module)
    assert apart(answers_of(folded, inputs), together) <= EXACT
    assert changed > 0
    assert not refusals


@pytest.mark.zoo
@pytest.mark.parametrize("name", [*NANOS, *FULL_SIZE])
def test_model_answers_alike_in_every_engine(name: str, sweep_engines) -> None:
    batches = (1, 2) if census(get_spec(name)).macs > LARGE else (1, 3)
    found = sweep_engines(name, batches=batches)
    OUT.mkdir(parents=True, exist_ok=True)
    keep({name: found}, OUT / f"{name}.json")
