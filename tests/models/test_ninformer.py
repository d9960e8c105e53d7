"""NiNformer: the published size, an independent forward, the deploy form."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.ninformer as family
from fourfold.models.registry import get_spec

TINY = family.NinformerConfig(size=12, dim=12, hidden=20, depth=3, classes=5)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return family.Ninformer(family.CIFAR)


def test_parameter_counts_are_exact() -> None:
    model = on_meta()
    assert sum(p.numel() for p in model.parameters()) == 2_652_170 == get_spec("ninformer").params
    assert sum(p.numel() for p in model.get_submodule("model").parameters()) == 2_637_056


def test_cost_of_the_body_is_as_measured() -> None:
    body = on_meta().get_submodule("model").eval()
    with FlopCounterMode(display=False) as counter:
        body(torch.empty(1, 64, 256, device="meta"))
    assert round(counter.get_total_flops() / 2e9, 3) == 0.218


def test_nano_is_small() -> None:
    assert 100_000 <= sum(p.numel() for p in family.Ninformer(family.NANO).parameters()) <= 600_000


def test_names_are_those_of_the_public_code() -> None:
    parts = ["norm", "mgu.proj", "ffn.net.0", "ffn.net.3"]
    parts += [f"mgu.Mixer.token_mix.{m}" for m in ("0", "2.net.0", "2.net.3")]
    parts += [f"mgu.Mixer.channel_mix.{m}" for m in ("0", "1.net.0", "1.net.3")]
    layers = ["patcher", "classifier", *(f"model.{i}.{p}" for i in range(4) for p in parts)]
    assert set(on_meta().state_dict()) == {f"{m}.{n}" for m in layers for n in ("weight", "bias")}


def by_formula(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The whole network from its state dict, with plain functions."""

    def norm(name: str, t: Tensor) -> Tensor:
        centred = t - t.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def feed(name: str, t: Tensor) -> Tensor:
        hidden = F.gelu(t @ w[f"{name}.net.0.weight"].T + w[f"{name}.net.0.bias"])
        return hidden @ w[f"{name}.net.3.weight"].T + w[f"{name}.net.3.bias"]

    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 9, -1)
    x = patches @ w["patcher.weight"].flatten(1).T + w["patcher.bias"]
    for i in range(3):
        n = norm(f"model.{i}.norm", x)
        mixer = f"model.{i}.mgu.Mixer"
        m = n + feed(f"{mixer}.token_mix.2", norm(f"{mixer}.token_mix.0", n).mT).mT
        m = m + feed(f"{mixer}.channel_mix.1", norm(f"{mixer}.channel_mix.0", m))
        x = x + (n @ w[f"model.{i}.mgu.proj.weight"].T + w[f"model.{i}.mgu.proj.bias"]) * m
        x = x + feed(f"model.{i}.ffn", norm(f"model.{i}.norm", x))
    return x.mean(1) @ w["classifier.weight"].T + w["classifier.bias"]


def test_network_equals_its_formulae(randomise) -> None:
    torch.manual_seed(1)
    model = randomise(family.Ninformer(TINY)).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = by_formula(model.state_dict(), x)
    assert (model(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_deploy_form_equals_the_trained_form(randomise, folds_exactly) -> None:
    torch.manual_seed(1)
    folds_exactly(randomise(family.Ninformer(TINY)), torch.randn(2, 3, 12, 12))


def test_deploy_form_costs_less_and_transposes_no_tokens() -> None:
    model = family.Ninformer(family.NANO).eval()
    costs: list[int] = []
    for form in (model, model.fused()):
        with FlopCounterMode(display=False) as counter:
            form(torch.zeros(1, 1, 28, 28))
        costs.append(counter.get_total_flops())
    assert costs[1] < costs[0]
    assert not any(isinstance(m, family.Swap) for m in model.fused().modules())


def test_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    answers_alone(randomise(family.Ninformer(family.NANO)), torch.randn(3, 1, 28, 28))
