"""MoH-ViT: exact sizes, an independent forward that unfolds, both deploy forms, and what the second saves."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.moh_vit as family
from fourfold.errors import BuildError
from fourfold.models.moh_vit_blocks import GlobalAttention, LocalAttention, MohVitConfig
from fourfold.models.moh_vit_skip import SkippingAttention
from fourfold.models.registry import get_spec

CONFIGS = {
    "moh_vit_b_75": family.B_75,
    "moh_vit_b_50": family.B_50,
    "moh_vit_s_80": family.S_80,
    "moh_vit_s_75": family.S_75,
}
PARAMS = {
    "moh_vit_b_75": 90_020_632,
    "moh_vit_b_50": 90_023_512,
    "moh_vit_s_80": 49_910_548,
    "moh_vit_s_75": 49_910_548,
}
ACTIVE = {"moh_vit_b_75": 0.75, "moh_vit_b_50": 0.5, "moh_vit_s_80": 0.7995, "moh_vit_s_75": 0.753}
TINY = MohVitConfig(
    (16, 24),
    (4, 6),
    (1, 2),
    shared=(1, 3),
    top_k=(2, 2),
    mlp_ratios=(3, 2),
    ratios=(3, 1),
    stem=(3, 2),
    size=24,
    classes=5,
)
TINIER = replace(TINY, stem=(3, 2), size=12)


def on_meta(config: MohVitConfig) -> nn.Module:
    with torch.device("meta"):
        return family.MohVit(config)


def built(config: MohVitConfig, randomise) -> family.MohVit:
    torch.manual_seed(1)
    model = randomise(family.MohVit(config))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(part in name for part in ("wg", "cpb", "learnable", "query_embedding", "bias_local")):
                value.add_(0.5 * torch.randn_like(value))
    return model


@pytest.mark.parametrize("name", PARAMS)
def test_parameter_count_is_exact(name: str) -> None:
    assert (
        sum(p.numel() for p in on_meta(CONFIGS[name]).parameters()) == PARAMS[name] == get_spec(name).params
    )


@pytest.mark.parametrize("name", ACTIVE)
def test_share_of_active_heads_is_the_published_one(name: str) -> None:
    c = CONFIGS[name]
    active = sum(d * (s + k) for d, s, k in zip(c.depths, c.shared, c.top_k, strict=True))
    assert active / sum(d * h for d, h in zip(c.depths, c.heads, strict=True)) == pytest.approx(
        ACTIVE[name], abs=5e-4
    )


def test_nano_is_small() -> None:
    assert 100_000 <= sum(p.numel() for p in on_meta(family.NANO).parameters()) <= 600_000


def test_names_are_those_of_public_checkpoints() -> None:
    c = family.B_75
    both = ("weight", "bias")
    names = {f"head.{n}" for n in both}
    for stage in range(1, 5):
        parts = [f"patch_embed{stage}.proj", f"patch_embed{stage}.norm", f"norm{stage}"]
        names |= {f"{p}.{n}" for p in parts for n in both}
        for j in range(c.depths[stage - 1]):
            at = f"block{stage}.{j}"
            inside = ["proj", "cpb_fc1", "cpb_fc2", *(["qkv"] if stage == 4 else ["q", "kv", "sr", "norm"])]
            parts = [
                "norm1",
                "norm2",
                "mlp.fc1",
                "mlp.fc2",
                "mlp.dwconv.dwconv",
                *(f"attn.{m}" for m in inside),
            ]
            names |= {f"{at}.{p}.{n}" for p in parts for n in both}
            plain = ["temperature", "query_embedding", "wg_1.weight"]
            plain += ["wg_0.weight", "wg.weight"] if stage > 2 else []
            plain += [] if stage == 4 else ["relative_pos_bias_local", "learnable_tokens", "learnable_bias"]
            names |= {f"{at}.attn.{p}" for p in plain}
    assert set(on_meta(c).state_dict()) == names


def far_bias_of_all_pairs(attn: LocalAttention | GlobalAttention, side: int, ratio: int) -> Tensor:
    """Compute the bias pair by pair, without a table."""
    at = torch.arange(side, dtype=torch.float64)
    centre = at.reshape(-1, ratio).mean(1)
    distance = (at[:, None] - centre[None]) * 8 / (side - 1)
    rows = distance[:, None, :, None].expand(side, side, len(centre), len(centre))
    pairs = torch.stack([rows, rows.transpose(0, 1).transpose(2, 3)], dim=-1).reshape(side**2, -1, 2)
    coordinate = pairs.sign() * (pairs.abs() + 1).log2() / math.log2(8)
    return attn.cpb_fc2(F.relu(attn.cpb_fc1(coordinate))).permute(2, 0, 1)


def weights_by_formula(attn: LocalAttention | GlobalAttention, x: Tensor) -> Tensor:
    """(B, N, C) to (B, A, N, 1)."""
    plan = attn.plan
    blend = 2 * attn.wg_0(x).softmax(-1)
    shared = torch.ones_like(x[..., :1]) if attn.wg_1 is None else plan.shared * attn.wg_1(x).softmax(-1)
    scores = attn.wg(x).softmax(-1)
    least = scores.sort(dim=-1, descending=True).values[..., plan.top_k - 1 : plan.top_k]
    scores = scores * (scores >= least)
    routed = plan.top_k * scores / scores.sum(-1, keepdim=True)
    joined = torch.cat([blend[..., :1] * shared, blend[..., 1:] * routed], -1)
    return joined.transpose(1, 2).unsqueeze(-1)


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.reshape(len(x), x.shape[1], heads, -1).transpose(1, 2)


def length_one(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt()


def local_by_unfolding(attn: LocalAttention, x: Tensor, side: int) -> Tensor:
    batch, tokens, dim = x.shape
    heads, width = attn.plan.heads, dim // attn.plan.heads
    q = length_one(heads_of(attn.q(x), heads))
    k, v = attn.kv(x).split(dim, -1)
    k = length_one(heads_of(k, heads)).transpose(1, 2).reshape(batch, tokens, dim)

    def windows(t: Tensor) -> Tensor:
        unfolded = F.unfold(t.mT.reshape(batch, dim, side, side), 3, padding=1)
        return unfolded.reshape(batch, heads, width, 9, tokens).permute(0, 1, 4, 3, 2)

    inside = F.unfold(torch.ones(1, 1, side, side, dtype=x.dtype), 3, padding=1)[0].T > 0
    maps = attn.sr(x.mT.reshape(batch, dim, side, side))
    pooled = F.avg_pool2d(F.gelu(maps), attn.ratio).flatten(2).mT
    far_k, far_v = (heads_of(t, heads) for t in attn.kv(attn.norm(pooled)).split(dim, -1))
    keys = inside.sum(1) + pooled.shape[1]
    scaled = (q + attn.query_embedding) * F.softplus(attn.temperature) * keys.log()[:, None]
    near = (windows(k) * scaled.unsqueeze(3)).sum(-1) + attn.relative_pos_bias_local[:, None]
    near = near.masked_fill(~inside, float("-inf"))
    far = scaled @ length_one(far_k).mT + far_bias_of_all_pairs(attn, side, attn.ratio)
    a = torch.cat([near, far], -1).softmax(-1)
    local = a[..., :9] + q @ attn.learnable_tokens + attn.learnable_bias
    out = (local.unsqueeze(-1) * windows(v)).sum(3) + a[..., 9:] @ far_v
    return attn.proj((out * weights_by_formula(attn, x)).transpose(1, 2).reshape(x.shape))


def test_local_attention_equals_its_formulae(randomise) -> None:
    attn = built(TINY, randomise).double().get_submodule("block1.0.attn")
    assert isinstance(attn, LocalAttention)
    x = torch.randn(2, 144, 16, dtype=torch.float64)
    expected = local_by_unfolding(attn, x, 12)
    assert (attn(x) - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_global_attention_equals_its_formulae(randomise) -> None:
    attn = built(TINY, randomise).double().get_submodule("block2.0.attn")
    assert isinstance(attn, GlobalAttention)
    x = torch.randn(2, 36, 24, dtype=torch.float64)
    q, k, v = (heads_of(t, 6) for t in attn.qkv(x).split(24, -1))
    q = (length_one(q) + attn.query_embedding) * F.softplus(attn.temperature) * math.log(36)
    a = (q @ length_one(k).mT + far_bias_of_all_pairs(attn, 6, 1)).softmax(-1)
    expected = attn.proj((a @ v * weights_by_formula(attn, x)).transpose(1, 2).reshape(x.shape))
    assert (attn(x) - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_gated_mlp_equals_its_formula(randomise) -> None:
    mlp = built(TINY, randomise).double().get_submodule("block1.0.mlp")
    x = torch.randn(2, 144, 16, dtype=torch.float64)
    w = mlp.state_dict()
    assert w["fc1.weight"].shape[0] == 2 * (2 * 3 * 16 // 3)
    a, b = (x @ w["fc1.weight"].T + w["fc1.bias"]).split(32, -1)
    a = F.conv2d(
        a.mT.reshape(2, 32, 12, 12), w["dwconv.dwconv.weight"], w["dwconv.dwconv.bias"], padding=1, groups=32
    )
    expected = (F.gelu(a.flatten(2).mT) * b) @ w["fc2.weight"].T + w["fc2.bias"]
    assert (mlp(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("config", [TINY, family.NANO], ids=["tiny", "nano"])
def test_deploy_forms_equal_the_trained_form(config, skip, randomise, folds_exactly) -> None:
    model = built(replace(config, skip=skip), randomise)
    skipping = sum(isinstance(m, SkippingAttention) for m in model.fused().modules())
    assert skipping == (sum(config.depths) if skip else 0)
    folds_exactly(model, torch.randn(2, config.channels, config.size, config.size))


def test_skipping_takes_any_routing(randomise) -> None:
    """All tokens want the same heads: the most uneven routing there is."""
    model = built(replace(TINIER, skip=True), randomise).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("wg.weight"):
                value.zero_()
                value[0] += 1e-9  # ties must be broken alike in both forms
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = model(x)
    assert (model.fused()(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_unselected_heads_are_not_computed() -> None:
    """Queries, attention and output products of routed heads are counted in slots, exactly."""
    counts: dict[bool, int] = {}
    for skip in (False, True):
        model = family.MohVit(replace(family.B_50, depths=(0, 0, 0, 1), skip=skip))
        attn = model.fused().get_submodule("block4_0.attn")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            attn(torch.randn(1, 49, 768))
        counts[skip] = counter.get_total_flops() // 2
    tokens, dim, width, routed, selected, tile = 49, 768, 24, 28, 8, 8
    slots = (tokens * selected + routed * (tile - 1)) // tile * tile
    assert slots < 0.45 * tokens * routed
    pair = 2 * dim * width + 2 * tokens * width  # query and output; logits and values
    weighted_sum = tokens * selected * dim
    assert counts[False] - counts[True] == pair * (tokens * routed - slots) - weighted_sum


@pytest.mark.parametrize("skip", [False, True])
def test_batches_do_not_mix(skip, randomise, answers_alone) -> None:
    model = built(replace(family.NANO, skip=skip), randomise)
    answers_alone(model.fused(), torch.randn(3, 1, 28, 28))
    answers_alone(model, torch.randn(3, 1, 28, 28))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(BuildError, match="got 26 with ratios"):
        family.MohVit(replace(TINY, size=26))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moh_vit_nano", "moh_vit_nano_skip"])
def test_nano_runs_in_every_engine(name: str, reach_engines) -> None:
    exported = reach_engines(name)
    operators = {node.op_type for node in exported.model.graph}
    assert not operators & {"Im2Col", "Col2Im", "Loop", "If", "NonZero"}
