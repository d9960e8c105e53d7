"""M3ViT: exact sizes, an independent forward, experts computed only where selected, tasks per picture."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.m3vit as family
from fourfold.models.m3vit_blocks import ExpertMlp
from fourfold.models.m3vit_deploy import tile_for_experts
from fourfold.models.registry import get_spec
from fourfold.models.routing import tile_count

CONFIGS = {
    "m3vit_small_pascal": (family.SMALL_PASCAL, 43_463_040),
    "m3vit_small_nyud": (family.SMALL_NYUD, 43_420_032),
    "m3vit_base_pascal": (family.BASE_PASCAL, 171_860_736),
}
TINY = family.M3VitConfig(
    (32, 48), 12, tasks=3, depth=4, heads=3, experts=5, top_k=2, expert_ratio=2, patch=8, decoder=6
)


def built(randomise, config: family.M3VitConfig = TINY) -> family.Backbone:
    torch.manual_seed(1)
    model = randomise(family.Backbone(config)).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "w_gate" in name or "qkv" in name:
                value.mul_(3)
    return model


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, 32, 48, generator=generator, dtype=torch.float64), torch.arange(batch) % 3


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_count_is_exact(name: str) -> None:
    config, params = CONFIGS[name]
    with torch.device("meta"):
        model = family.Backbone(config)
    assert sum(p.numel() for p in model.parameters()) == params == get_spec(name).params


def test_names_are_those_of_public_checkpoints() -> None:
    with torch.device("meta"):
        model = family.Backbone(family.SMALL_NYUD)
    both = ("weight", "bias")
    names = {"cls_token", "pos_embed"} | {f"patch_embed.proj.{n}" for n in both}
    for i in range(12):
        parts = ["norm1", "norm2", "attn.qkv", "attn.proj"]
        parts += ["mlp.experts.htoh4", "mlp.experts.h4toh"] if i % 2 else ["mlp.fc1", "mlp.fc2"]
        names |= {f"blocks.{i}.{p}.{n}" for p in parts for n in both}
        names |= {f"blocks.{i}.mlp.gate.{t}.w_gate" for t in (0, 1)} if i % 2 else set()
    state = model.state_dict()
    assert set(state) == names
    assert state["blocks.1.mlp.experts.htoh4.weight"].shape == (16, 384, 384)
    assert state["blocks.1.mlp.gate.0.w_gate"].shape == (384, 16)


def by_formula(w: dict[str, Tensor], x: Tensor, task: Tensor) -> list[Tensor]:
    """Compute every block from the state dict, expert layers token by token."""

    def norm(at: str, v: Tensor) -> Tensor:
        return F.layer_norm(v, v.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"], eps=1e-6)

    def linear(at: str, v: Tensor) -> Tensor:
        return v @ w[f"{at}.weight"].T + w[f"{at}.bias"]

    def experts(at: str, token: Tensor, t: int) -> Tensor:
        scores = (token @ w[f"{at}.gate.{t}.w_gate"]).softmax(0)
        total = torch.zeros_like(token)
        for e in scores.argsort(descending=True)[:2].tolist():
            hidden = w[f"{at}.experts.htoh4.weight"][e] @ token + w[f"{at}.experts.htoh4.bias"][e]
            answer = w[f"{at}.experts.h4toh.weight"][e] @ F.gelu(hidden) + w[f"{at}.experts.h4toh.bias"][e]
            total = total + scores[e] * answer
        return total

    patches = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 24, -1)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = torch.cat([w["cls_token"].repeat(len(x), 1, 1), x], 1) + w["pos_embed"]
    levels: list[Tensor] = []
    for i in range(4):
        at = f"blocks.{i}"
        q, k, v = (
            linear(f"{at}.attn.qkv", norm(f"{at}.norm1", x))
            .reshape(len(x), 25, 3, 3, 4)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + linear(f"{at}.attn.proj", mixed)
        n = norm(f"{at}.norm2", x)
        if i % 2:
            rows = [
                [experts(f"{at}.mlp", token, int(t)) for token in one] for one, t in zip(n, task, strict=True)
            ]
            x = x + torch.stack([torch.stack(one) for one in rows])
        else:
            x = x + linear(f"{at}.mlp.fc2", F.gelu(linear(f"{at}.mlp.fc1", n)))
        levels.append(x)
    return levels


def test_network_equals_its_formulae(randomise) -> None:
    model = built(randomise)
    with torch.no_grad():
        expected, actual = by_formula(model.state_dict(), *inputs()), model.levels(*inputs())
    assert len(actual) == 4
    for one, other in zip(actual, expected, strict=True):
        assert (one - other).abs().max() <= 1e-12 * other.abs().max()


def test_the_task_chooses_the_gates(randomise) -> None:
    model = built(randomise)
    x, _ = inputs(1)
    with torch.no_grad():
        answers = [model(x, torch.tensor([t])) for t in range(3)]
    assert min((answers[i] - answers[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_deploy_form_equals_the_trained_form(randomise) -> None:
    model = built(randomise)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = model.fused()
    with torch.no_grad():
        expected, actual = model(*inputs()), fused(*inputs())
    assert expected.std(dim=0).max() > 1e-2
    assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in fused.parameters()}


@pytest.mark.parametrize(("patch", "alike"), [(16, 0), (8, 1), (4, 2)])
def test_one_task_with_decoder_equals_its_formula(randomise, folds_exactly, patch: int, alike: int) -> None:
    torch.manual_seed(1)
    config = replace(TINY, tasks=1, decoder=16, patch=patch)
    model = randomise(family.OneTask(config, 5)).double()
    for value in model.decoder.parameters():
        if value.ndim == 4:
            nn.init.kaiming_normal_(value)  # a narrow decoder's usual start passes nothing on
    x, _ = inputs(2)
    with torch.no_grad():
        tokens = model.backbone(x, torch.zeros(2, dtype=torch.int64))
        w, actual = model.decoder.state_dict(), model(x)
        y = F.layer_norm(tokens[:, 1:], (12,), w["norm.weight"], w["norm.bias"], eps=1e-6)
        y = y.mT.reshape(2, 12, 32 // patch, 48 // patch)
        for i in range(4):
            y = F.conv2d(y, w[f"conv_{i}.weight"], w[f"conv_{i}.bias"], padding=1)
            stats = (w[f"syncbn_fc_{i}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
            y = F.batch_norm(y, *stats).relu()
            y = F.conv2d(y, w["conv_4.weight"], w["conv_4.bias"]) if i == 3 else y
            y = y if i < alike else nn.Upsample(scale_factor=2, mode="bilinear")(y)
    assert actual.shape == (2, 5, 32, 48)
    assert (actual - y).abs().max() <= 1e-12 * y.abs().max()
    folds_exactly(model, x)


@pytest.mark.parametrize("form", ["trained", "deployed"])
def test_batches_do_not_mix(form: str, randomise) -> None:
    model: nn.Module = built(randomise)
    model = model.fused() if form == "deployed" else model
    x, task = inputs(3)
    with torch.no_grad():
        together = model(x, task)
        assert torch.equal(together, model(x, task))
        alone = torch.cat([model(x[i : i + 1], task[i : i + 1]) for i in range(3)])
    assert (together - alone).abs().max() <= 1e-12 * together.abs().max()


def test_unselected_experts_are_not_computed() -> None:
    config = replace(family.SMALL_PASCAL, dim=48)
    with torch.device("meta"):
        mlp = ExpertMlp(config)
        forms = {"trained": mlp, "deployed": mlp.fused()}
        counts: dict[str, int] = {}
        for name, form in forms.items():
            with FlopCounterMode(display=False) as counter:
                form(torch.empty(1, 1025, 48), torch.empty(1, dtype=torch.int64))
            counts[name] = counter.get_total_flops() // 2
    tile = tile_for_experts(1025)
    slots = tile * tile_count(1025, 4, 16, tile)
    gate, pair, weighted_sum = 1025 * 48 * 16, 2 * 48 * 48, 1025 * 4 * 48
    assert counts["trained"] == gate + 1025 * 16 * pair
    assert counts["deployed"] == gate + slots * pair + weighted_sum
    assert slots < 0.4 * 1025 * 16
