"""MoH-DiT: exact sizes and costs, an independent forward, both deploy forms, and what the second saves."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.moh_dit as family
from fourfold.models.moh_dit_deploy import SkippingAttention
from fourfold.models.registry import get_spec

SIZES = ("s_90", "s_75", "b_90", "b_75", "l_90", "l_75", "xl_90", "xl_75")
PARAMS = {
    "s_90": 32_997_152,
    "s_75": 32_998_688,
    "b_90": 130_638_368,
    "b_75": 130_638_368,
    "l_90": 458_512_416,
    "l_75": 458_528_800,
    "xl_90": 675_666_464,
    "xl_75": 675_689_504,
}
ACTIVE = dict(zip(SIZES, (0.8889, 0.75, 0.8958, 0.75, 0.8958, 0.75, 0.8996, 0.75), strict=True))
GIGA_MACS = {"s": 5.46, "b": 21.83, "l": 77.58}
TINY = family.MohDitConfig(
    dim=16,
    width=6,
    heads=(2, 4, 5),
    shared=(2, 1, 2),
    top_k=(0, 2, 1),
    size=8,
    patch=2,
    channels=3,
    classes=7,
)


def config_of(size: str) -> family.MohDitConfig:
    return getattr(family, size.upper())


def on_meta(size: str) -> nn.Module:
    with torch.device("meta"):
        return family.MohDit(config_of(size)).eval()


def built(randomise, config: family.MohDitConfig = TINY) -> family.MohDit:
    torch.manual_seed(1)
    model = randomise(family.MohDit(config))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "wg" in name or "qkv" in name:
                value.mul_(2)  # attention and gates must not be uniform
    return model


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 8, 8, generator=generator, dtype=torch.float64)
    t = 900 * torch.rand(batch, generator=generator, dtype=torch.float64)
    return x, t, torch.randint(0, 8, (batch,), generator=generator)


@pytest.mark.parametrize("size", SIZES)
def test_parameter_count_is_exact(size: str) -> None:
    count = sum(p.numel() for p in on_meta(size).parameters())
    assert count == PARAMS[size] == get_spec(f"moh_dit_{size}").params


@pytest.mark.parametrize("size", SIZES)
def test_share_of_active_heads_is_the_published_one(size: str) -> None:
    c = config_of(size)
    assert len(c.heads) == len(c.shared) == len(c.top_k)
    assert (sum(c.shared) + sum(c.top_k)) / sum(c.heads) == pytest.approx(ACTIVE[size], abs=5e-5)


@pytest.mark.parametrize("size", GIGA_MACS)
def test_cost_is_as_measured_without_the_products_inside_attention(size: str) -> None:
    c, model = config_of(f"{size}_75"), on_meta(f"{size}_75")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 4, 32, 32), torch.empty(1), torch.empty(1, dtype=torch.long))
    inside = 2 * 256**2 * sum(c.heads) * c.width
    assert (counter.get_total_flops() / 2 - inside) / 1e9 == pytest.approx(GIGA_MACS[size], abs=0.006)


def test_names_are_those_of_public_checkpoints() -> None:
    both = ("weight", "bias")
    layers = ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "final_layer.linear"]
    layers.append("final_layer.adaLN_modulation.1")
    names = {"pos_embed", "y_embedder.embedding_table.weight"}
    for i in range(12):
        parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1")
        layers += [f"blocks.{i}.{p}" for p in parts]
        gates = ("wg", "wg_0", "wg_1") if i < 10 else ("wg_1",)
        names |= {f"blocks.{i}.attn.{g}.weight" for g in gates}
    assert set(on_meta("s_75").state_dict()) == names | {f"{m}.{n}" for m in layers for n in both}


def test_positions_are_frozen_sines() -> None:
    model = family.MohDit(TINY)
    assert not model.pos_embed.requires_grad
    row, column, i = 2, 3, 1
    at = model.pos_embed[0, 4 * row + column]
    for start, value in ((0, column), (8, row)):
        angle = value / 10_000 ** (i / 4)
        assert float(at[start + i]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(at[start + 4 + i]) == pytest.approx(math.cos(angle), abs=1e-6)


def by_formula(w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Compute the whole network from its state dict, head by head and token by token."""

    def linear(name: str, v: Tensor) -> Tensor:
        return v @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(v: Tensor) -> Tensor:
        return (v - v.mean(-1, keepdim=True)) / (v.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()

    def weights(at: str, v: Tensor, heads: int, shared: int, top_k: int) -> Tensor:
        a = torch.ones(1, dtype=v.dtype) if shared == 1 else shared * (w[f"{at}.wg_1.weight"] @ v).softmax(0)
        if shared == heads:
            return a
        p, q = 2 * (w[f"{at}.wg_0.weight"] @ v).softmax(0)
        g = (w[f"{at}.wg.weight"] @ v).softmax(0)
        g = g * torch.tensor([float((g > one).sum() < top_k) for one in g])
        return torch.cat([p * a, q * top_k * g / g.sum()])

    angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(128) / 128)
    time = F.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1)))
    condition = F.silu(linear("t_embedder.mlp.2", time) + w["y_embedder.embedding_table.weight"][y])
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 16, 12)
    x = patches @ w["x_embedder.proj.weight"].flatten(1).T + w["x_embedder.proj.bias"] + w["pos_embed"]
    for i, (heads, shared, top_k) in enumerate(zip(TINY.heads, TINY.shared, TINY.top_k, strict=True)):
        at = f"blocks.{i}.attn"
        s1, m1, g1, s2, m2, g2 = linear(f"blocks.{i}.adaLN_modulation.1", condition)[:, None].chunk(6, -1)
        n = norm(x) * (1 + m1) + s1
        q, k, v = linear(f"{at}.qkv", n).reshape(len(x), 16, 3, heads, 6).unbind(2)
        each = torch.stack([torch.stack([weights(at, u, heads, shared, top_k) for u in b]) for b in n])
        mixed = torch.empty_like(q)
        for h in range(heads):
            a = (q[:, :, h] @ k[:, :, h].mT / math.sqrt(6)).softmax(-1)
            mixed[:, :, h] = a @ v[:, :, h] * each[:, :, h, None]
        x = x + g1 * linear(f"{at}.proj", mixed.flatten(2))
        hidden = linear(f"blocks.{i}.mlp.fc1", norm(x) * (1 + m2) + s2)
        cubic = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        x = x + g2 * linear(f"blocks.{i}.mlp.fc2", hidden / 2 * (1 + cubic.tanh()))
    shift, scale = linear("final_layer.adaLN_modulation.1", condition)[:, None].chunk(2, -1)
    x = linear("final_layer.linear", norm(x) * (1 + scale) + shift)
    image = torch.empty(len(x), 6, 8, 8, dtype=x.dtype)
    for n in range(16):
        row, column = 2 * (n // 4), 2 * (n % 4)
        image[:, :, row : row + 2, column : column + 2] = x[:, n].reshape(-1, 2, 2, 6).permute(0, 3, 1, 2)
    return image


def test_network_equals_its_formulae(randomise) -> None:
    model = built(randomise).double()
    with torch.no_grad():
        expected, actual = by_formula(model.state_dict(), *inputs()), model(*inputs())
    assert expected.std(dim=0).max() > 1e-2
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("skip", [False, True])
def test_deploy_forms_equal_the_trained_form(skip: bool, randomise) -> None:
    model = built(randomise, replace(TINY, skip=skip)).double()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    folded = model.fused()
    assert sum(isinstance(m, SkippingAttention) for m in folded.modules()) == (2 if skip else 0)
    with torch.no_grad():
        expected, actual = model(*inputs()), folded(*inputs())
    assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in folded.parameters()}


@pytest.mark.parametrize("skip", [False, True])
def test_batches_do_not_mix(skip: bool, randomise) -> None:
    model = built(randomise, replace(TINY, skip=skip)).double()
    for form in (model, model.fused()):
        with torch.no_grad():
            together = form(*inputs(3))
            alone = torch.cat([form(*(v[i : i + 1] for v in inputs(3))) for i in range(3)])
            assert torch.equal(together, form(*inputs(3)))
        assert (together - alone).abs().max() <= 1e-12 * together.abs().max()


def test_unselected_heads_are_not_computed() -> None:
    """Queries, attention and output products of routed heads are counted in slots, exactly."""
    counts: dict[bool, int] = {}
    for skip in (False, True):
        model = family.MohDit(replace(family.S_75, heads=(6,), shared=(3,), top_k=(1,), skip=skip))
        attn = model.fused().get_submodule("blocks.0.attn")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            attn(torch.randn(1, 256, 384))
        counts[skip] = counter.get_total_flops() // 2
    tokens, dim, width, routed, selected, tile = 256, 384, 64, 3, 1, 32
    slots = (tokens * selected + routed * (tile - 1)) // tile * tile
    pair = 2 * dim * width + 2 * tokens * width
    assert counts[False] - counts[True] == pair * (tokens * routed - slots) - tokens * selected * dim
