"""RSMamba: exact sizes, an independent forward, fixed shuffles, causality, the deploy form."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fourfold.models.rsmamba as family
from fourfold.models.registry import get_spec

TINY = family.RsMambaConfig(depth=2, dim=8, size=15, patch=6, stride=3, states=3, channels=2, classes=5)
PUBLISHED = {
    "rsmamba_s": (family.S, {21: 4_355_157}),
    "rsmamba_b": (family.B, {21: 6_381_141, 30: 6_382_878, 45: 6_385_773}),
    "rsmamba_l": (family.L, {21: 16_246_549, 30: 16_248_862, 45: 16_252_717}),
    "rsmamba_h": (family.H, {21: 33_053_141, 30: 33_056_030, 45: 33_060_845}),
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_exact(name: str) -> None:
    config, by_classes = PUBLISHED[name]
    for classes, params in by_classes.items():
        with torch.device("meta"):
            model = family.RsMamba(dataclasses.replace(config, classes=classes))
        assert count(model) == params
    assert get_spec(name).params == by_classes[21]


def test_backbone_is_as_measured() -> None:
    assert family.B.tokens == 784
    with torch.device("meta"):
        assert count(family.Backbone(family.B)) == 6_377_088


def test_nano_is_small() -> None:
    assert 100_000 <= count(family.RsMamba(family.NANO)) <= 600_000


def test_names_are_those_of_public_checkpoints() -> None:
    both = ("weight", "bias")
    names = {"patch_embed.projection.weight", "pos_embed"}
    names |= {f"{norm}.{n}" for norm in ("pre_norm", "ln1", "ln2") for n in both}
    for i in range(TINY.depth):
        at = f"layers.{i}"
        names |= {f"{at}.A_log", f"{at}.D", *(f"{at}.{m}.{n}" for m in ("conv1d", "dt_proj") for n in both)}
        names |= {f"{at}.{m}.weight" for m in ("in_proj", "x_proj", "out_proj")}
        names |= {f"gate_layers.{i}.0.weight"}
    expected = {f"backbone.{n}" for n in names} | {"head.fc.weight", "head.fc.bias"}
    assert set(family.RsMamba(TINY).state_dict()) == expected


def by_formula(w: dict[str, Tensor], order: Tensor, x: Tensor) -> Tensor:
    """The whole network from its state dict, token by token."""

    def norm(name: str, t: Tensor) -> Tensor:
        return F.layer_norm(t, t.shape[-1:], w[f"backbone.{name}.weight"], w[f"backbone.{name}.bias"], 1e-6)

    def mixer(at: str, t: Tensor) -> Tensor:
        u, z = (t @ w[f"{at}.in_proj.weight"].T).chunk(2, dim=-1)
        taps, a = w[f"{at}.conv1d.weight"][:, 0], -w[f"{at}.A_log"].exp()
        h, out = torch.zeros(len(t), *a.shape, dtype=t.dtype), []
        for step in range(t.shape[1]):
            seen = [taps[:, 3 - k] * u[:, step - k] for k in range(4) if step >= k]
            v = F.silu(sum(seen) + w[f"{at}.conv1d.bias"])
            r, b, c = (v @ w[f"{at}.x_proj.weight"].T).split((1, 3, 3), dim=-1)
            dt = (1 + (r @ w[f"{at}.dt_proj.weight"].T + w[f"{at}.dt_proj.bias"]).exp()).log()
            h = (dt[..., None] * a).exp() * h + (dt * v)[..., None] * b[:, None]
            y = (h * c[:, None]).sum(-1) + w[f"{at}.D"] * v
            out.append((y * F.silu(z[:, step])) @ w[f"{at}.out_proj.weight"].T)
        return torch.stack(out, dim=1)

    kernel = w["backbone.patch_embed.projection.weight"]
    wide = torch.zeros(len(x), 2, 18, 18, dtype=x.dtype)
    wide[..., :15, :15] = x
    patches = [
        (wide[:, None, :, 3 * i : 3 * i + 6, 3 * j : 3 * j + 6] * kernel) for i in range(5) for j in range(5)
    ]
    x = torch.stack([p.sum(dim=(2, 3, 4)) for p in patches], dim=1) + w["backbone.pos_embed"]
    for i, paths in enumerate(order):
        n, answers = norm("pre_norm", x), []
        for path in paths.T:
            y = torch.empty_like(x)
            y[:, path] = mixer(f"backbone.layers.{i}", n[:, path])
            answers.append(y)
        means = torch.cat([y.mean(dim=1) for y in answers], dim=-1)
        gates = (means @ w[f"backbone.gate_layers.{i}.0.weight"].T).softmax(-1)
        x = x + sum(gates[:, k, None, None] * y for k, y in enumerate(answers))
    return norm("ln2", norm("ln1", x).mean(dim=1)) @ w["head.fc.weight"].T + w["head.fc.bias"]


def tiny(randomise: Callable) -> family.RsMamba:
    """A network whose gates differ from path to path and whose mixers do not fade into the residual."""
    torch.manual_seed(1)
    model = randomise(family.RsMamba(TINY)).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "gate_layers" in name or "out_proj" in name or "x_proj" in name:
                value.mul_(5)
    return model


def test_network_equals_its_formulae(randomise) -> None:
    model = tiny(randomise)
    x = torch.randn(2, 2, 15, 15, dtype=torch.float64)
    expected = by_formula(model.state_dict(), model.backbone.order, x)
    assert (model(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_a_mixer_sees_no_later_token(randomise) -> None:
    torch.manual_seed(1)
    mixer = randomise(family.Mixer(8, states=3, rank=1))
    x = torch.randn(2, 9, 8)
    later = x.clone()
    later[:, 5:] += 1
    with torch.no_grad():
        before, after = mixer(x), mixer(later)
    assert torch.allclose(before[:, :5], after[:, :5], rtol=0, atol=1e-7 * float(before.abs().max()))
    assert (before[:, 5:] - after[:, 5:]).abs().amin(dim=(0, 2)).min() > 1e-4


def test_paths_are_forward_reverse_and_one_fixed_shuffle_per_layer() -> None:
    order = family.paths(3, 49, seed=4)
    line = torch.arange(49)
    assert torch.equal(order, family.paths(3, 49, seed=4))
    assert all(torch.equal(layer[:, 0], line) and torch.equal(layer[:, 1], line.flip(0)) for layer in order)
    assert all(torch.equal(layer[:, 2].sort().values, line) for layer in order)
    assert len({tuple(layer[:, 2].tolist()) for layer in order}) == 3
    assert not torch.equal(order, family.paths(3, 49, seed=5))


def test_answers_vary_over_shuffles_by_what_is_reported(randomise, record_property) -> None:
    """The public code draws a shuffle at every call; this is how far its answers would be from ours."""
    answers = []
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for seed in range(6):
        torch.manual_seed(1)
        model = randomise(family.RsMamba(dataclasses.replace(family.NANO, order_seed=seed)))
        with torch.no_grad():
            answers.append(model(x))
    drawn = torch.stack(answers)
    spread = drawn.std(dim=0).mean() / drawn.std(dim=1).mean()
    record_property("spread over shuffles / spread over images", float(spread))
    print(f"standard deviation over shuffles is {float(spread):.4f} of that over images")
    assert 1e-4 < spread < 1


def test_deploy_form_equals_the_trained_form(randomise, folds_exactly) -> None:
    folds_exactly(tiny(randomise), torch.randn(2, 2, 15, 15))


def test_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    torch.manual_seed(1)
    x = torch.randn(3, 1, 28, 28)
    model = randomise(family.RsMamba(family.NANO))
    answers_alone(model, x)
    answers_alone(model.fused().eval(), x)


def test_every_parameter_learns() -> None:
    torch.manual_seed(1)
    model = family.RsMamba(TINY)
    model(torch.randn(2, 2, 15, 15)).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rsmamba_nano", "rsmamba_b"])
def test_engines_agree_with_torch(name: str, reach_engines) -> None:
    exported = reach_engines(name)
    assert not exported.history[-1].refusals
    scans = [node for node in exported.model.graph if node.op_type == "Scan"]
    assert len(scans) == {"rsmamba_nano": 4, "rsmamba_b": 24}[name], "one for all three directions of a layer"
