"""Dynamic Perceiver: exact sizes, public names, an independent forward, and the deploy form in parts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import fourfold.models.dynamic_perceiver as family
from fourfold.models.dynamic_perceiver_blocks import MultiHead
from fourfold.models.dynamic_perceiver_cnn import Trunk, mobilenet_v3, regnet, resnet50
from fourfold.models.registry import get_spec

CONFIGS = {
    "perceiver_reg400m": family.REG400M,
    "perceiver_reg800m": family.REG800M,
    "perceiver_reg1600m": family.REG1600M,
    "perceiver_reg3200m": family.REG3200M,
    "perceiver_resnet50_0375": family.RESNET50_0375,
    "perceiver_mobilenet_075": family.MOBILENET_075,
    "perceiver_mobilenet_100": family.MOBILENET_100,
}
PARAMS = {
    "perceiver_reg400m": 11_606_544,
    "perceiver_reg800m": 21_798_360,
    "perceiver_reg1600m": 27_161_246,
    "perceiver_reg3200m": 62_743_346,
    "perceiver_resnet50_0375": 20_283_336,
    "perceiver_mobilenet_075": 9_299_040,
    "perceiver_mobilenet_100": 15_162_448,
}
GIGA_MACS = {
    "perceiver_reg400m": 0.634,
    "perceiver_reg800m": 1.298,
    "perceiver_reg1600m": 2.056,
    "perceiver_reg3200m": 4.396,
    "perceiver_resnet50_0375": 1.190,
    "perceiver_mobilenet_075": 0.2664,
    "perceiver_mobilenet_100": 0.4253,
}


def on_meta(config: family.PerceiverConfig) -> family.DynamicPerceiver:
    with torch.device("meta"):
        return family.DynamicPerceiver(config)


def small(trunk, joint: bool) -> family.PerceiverConfig:
    return family.PerceiverConfig(trunk, joint, (1, 2, 1, 1), latents=16, widening=2, classes=7)


def tiny_trunk() -> Trunk:
    return regnet((16, 24, 32, 40), (1, 2, 1, 1), 8, channels=2, stem=(8, 1), strides=(2, 2, 1, 2))


SMALL = {
    "regnet": (small(tiny_trunk, joint=True), (2, 28, 28)),
    "resnet": (small(lambda: resnet50(0.125), joint=False), (3, 112, 112)),
    "mobilenet": (small(lambda: mobilenet_v3(0.5), joint=False), (3, 112, 112)),
}


def built(config: family.PerceiverConfig, randomise) -> family.DynamicPerceiver:
    torch.manual_seed(1)
    model = randomise(family.DynamicPerceiver(config))
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim == 2:  # narrow layers need more than the usual 0.02 to pass anything on
                value.normal_(std=1.5 * value.shape[1] ** -0.5)
    return model


@pytest.mark.parametrize("name", PARAMS)
def test_parameter_count_is_exact(name: str) -> None:
    assert (
        sum(p.numel() for p in on_meta(CONFIGS[name]).parameters()) == PARAMS[name] == get_spec(name).params
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "perceiver_reg400m" else pytest.mark.slow) for n in GIGA_MACS],
)
def test_cost_is_close_to_the_public_counter(name: str) -> None:
    """Within 2 %: the public counter also counts means and leaves out the gates of channels."""
    model = on_meta(CONFIGS[name]).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(GIGA_MACS[name], rel=0.02)


def test_nano_is_small() -> None:
    assert 100_000 <= sum(p.numel() for p in on_meta(family.NANO).parameters()) <= 600_000


BOTH = ("weight", "bias")
NORM = (*BOTH, "running_mean", "running_var", "num_batches_tracked")


def names_of_attention() -> set[str]:
    names = {"latent"}

    def attention(at: str, own_key: bool) -> set[str]:
        parts = {f"{at}.attention.{p}_proj.weight" for p in "qkvo"} | {f"{at}.attention.o_proj.bias"}
        return parts | ({f"{at}.attention.relative_position_bias"} if own_key else set())

    def mlp(at: str) -> set[str]:
        return {f"{at}.mlp.{p}.{n}" for p in ("layernorm", "fc1", "fc2") for n in BOTH}

    cross = [f"cross_att{i}_x2z" for i in (1, 2, 3, 4)] + [f"cross_att{i}_z2x" for i in (2, 3, 4)]
    for at in [*cross, "last_cross_att_z2x"]:
        names |= attention(f"{at}.cross_attn", at.endswith("x2z")) | mlp(at)
        names |= {f"{at}.cross_attn.{p}.{n}" for p in ("q_norm", "kv_norm") for n in BOTH}
    for stage, depth in enumerate((3, 3, 9, 6), start=1):
        for j in range(depth):
            at = f"self_att{stage}.{j}"
            names |= attention(f"{at}.self_attn", False) | mlp(at)
            names |= {f"{at}.self_attn.norm.{n}" for n in BOTH}
    parts = [f"dwc{i}_x2z" for i in (1, 2, 3, 4)]
    parts += [f"token_{k}.{i}.{j}" for k in ("mixer", "expander") for i in (0, 1, 2) for j in (0, 1)]
    parts += [
        "early_classifier3",
        "isc3.0",
        "isc4.0",
        "classifier_att",
        "classifier_cnn",
        "classifier_merge.1",
    ]
    names |= {f"{p}.{n}" for p in parts for n in BOTH}
    return names | {f"{p}.{n}" for p in ("isc3.1", "isc4.1", "classifier_merge.0") for n in NORM}


def test_names_are_those_of_public_checkpoints() -> None:
    names = names_of_attention() | {"cnn_stem.0.weight"} | {f"cnn_stem.1.{n}" for n in NORM}
    for stage, depth in enumerate((1, 3, 8, 2), start=1):
        for j in range(depth):
            at = f"cnn_body.block{stage}.block{stage}-{j}"
            convs = ["f.a", "f.b", "f.c", *(["proj"] if j == 0 else [])]
            names |= {f"{at}.{c}.0.weight" for c in convs} | {f"{at}.{c}.1.{n}" for c in convs for n in NORM}
            names |= {f"{at}.f.se.{fc}.{n}" for fc in ("fc1", "fc2") for n in BOTH}
    assert set(on_meta(family.REG800M).state_dict()) == names


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("perceiver_resnet50_0375", ["cnn_stem.1.running_var", "cnn_body_stage2.3.bn3.bias"]),
        ("perceiver_resnet50_0375", ["cnn_body_stage1.0.downsample.1.weight", "classifier_merge.1.weight"]),
        ("perceiver_mobilenet_075", ["cnn_stem.2.block.0.0.weight", "cnn_body_stage4.2.1.running_mean"]),
        ("perceiver_mobilenet_075", ["cnn_body_stage2.0.block.2.fc1.weight", "classifier_cnn.3.bias"]),
        ("perceiver_mobilenet_075", ["classifier_merge.4.weight"]),
    ],
)
def test_other_trunks_are_named_as_in_public_checkpoints(name: str, some: list[str]) -> None:
    assert set(some) <= set(on_meta(CONFIGS[name]).state_dict())


def layer_norm(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"])


def linear(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{at}.weight"], w.get(f"{at}.bias"))


def attention(w: dict[str, Tensor], at: str, x: Tensor, y: Tensor, heads: int) -> Tensor:
    q, k, v = linear(w, f"{at}.q_proj", x), linear(w, f"{at}.k_proj", y), linear(w, f"{at}.v_proj", y)
    k = k + w.get(f"{at}.relative_position_bias", torch.zeros(1, dtype=x.dtype))
    split = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    return linear(w, f"{at}.o_proj", mixed)


def mlp(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    return x + linear(w, f"{at}.fc2", F.gelu(linear(w, f"{at}.fc1", layer_norm(w, f"{at}.layernorm", x))))


def cross(w: dict[str, Tensor], at: str, x: Tensor, y: Tensor) -> Tensor:
    normed = layer_norm(w, f"{at}.cross_attn.q_norm", x), layer_norm(w, f"{at}.cross_attn.kv_norm", y)
    return mlp(w, f"{at}.mlp", x + attention(w, f"{at}.cross_attn.attention", *normed, 1))


def by_formula(model: family.DynamicPerceiver, x: Tensor) -> list[Tensor]:
    """Compute all exits from the state dict; the convolutions of a stage are taken from the model."""
    w = model.state_dict()
    bodies = [model.convolutions(i) for i in range(4)]

    def norm(at: str, v: Tensor) -> Tensor:
        spread = (w[f"{at}.running_var"] + 1e-5).sqrt()
        return (v - w[f"{at}.running_mean"]) / spread * w[f"{at}.weight"] + w[f"{at}.bias"]

    x = model.cnn_stem(x)
    z = w["latent"][None].repeat(len(x), 1, 1)
    summaries: list[Tensor] = []
    for i in range(1, 5):
        if i > 1:
            x = bodies[i - 2](x)
            for kind in ("mixer", "expander"):
                z = z.mT if kind == "mixer" else z
                at = f"token_{kind}.{i - 2}"
                z = linear(w, f"{at}.1", layer_norm(w, f"{at}.0", z))
                z = z.mT if kind == "mixer" else z
            x = cross(w, f"cross_att{i}_z2x", x.flatten(2).mT, z).mT.reshape(x.shape)
        depthwise = F.conv2d(x, w[f"dwc{i}_x2z.weight"], w[f"dwc{i}_x2z.bias"], padding=3, groups=x.shape[1])
        side = x.shape[-1] // 7
        y = F.avg_pool2d(x + depthwise, side).flatten(2).mT
        z = cross(w, f"cross_att{i}_x2z", z, y)
        for j in range(len(list(model.get_submodule(f"self_att{i}").children()))):
            at = f"self_att{i}.{j}"
            n = layer_norm(w, f"{at}.self_attn.norm", z)
            z = mlp(w, f"{at}.mlp", z + attention(w, f"{at}.self_attn.attention", n, n, 2 ** (i - 1)))
        summaries.append(z.mean(1))
    early = linear(w, "early_classifier3", summaries[2])
    known = F.relu(norm("isc3.1", linear(w, "isc3.0", early)))
    att = linear(w, "classifier_att", torch.cat([summaries[3], known], 1))
    x = bodies[3](x)
    cnn = linear(w, "classifier_cnn", x.mean((2, 3)))
    x = cross(w, "last_cross_att_z2x", x.flatten(2).mT, z)
    known = F.relu(norm("isc4.1", linear(w, "isc4.0", att)))
    merged = norm("classifier_merge.0", torch.cat([x.mean(1), summaries[3], known], 1))
    return [early, att, cnn, linear(w, "classifier_merge.1", merged)]


def close(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...] | list[Tensor], tolerance: float) -> None:
    assert len(actual) == len(expected) == 4
    for one, other in zip(actual, expected, strict=True):
        assert other.std(dim=0).max() > 1e-3 * other.abs().max(), "the answer must depend on the input"
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_network_equals_its_formulae(randomise) -> None:
    config, size = SMALL["regnet"]
    model = built(config, randomise).double()
    x = torch.randn(2, *size, dtype=torch.float64)
    with torch.no_grad():
        close(model(x), by_formula(model, x), 1e-12)


def test_regnet_block_equals_its_formula(randomise) -> None:
    model = built(SMALL["regnet"][0], randomise).double()
    block = model.get_submodule("cnn_body.block2.block2-0")
    w, x = block.state_dict(), torch.randn(2, 16, 8, 8, dtype=torch.float64)

    def conv(at: str, v: Tensor, **options: int) -> Tensor:
        v = F.conv2d(v, w[f"{at}.0.weight"], **options)
        stats = (w[f"{at}.1.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(v, *stats)

    assert w["f.se.fc1.weight"].shape[:2] == (4, 24), "a quarter of the block's input"
    y = conv("f.b", conv("f.a", x).relu(), stride=2, padding=1, groups=3).relu()
    gate = F.conv2d(y.mean((2, 3), keepdim=True), w["f.se.fc1.weight"], w["f.se.fc1.bias"]).relu()
    gate = F.conv2d(gate, w["f.se.fc2.weight"], w["f.se.fc2.bias"]).sigmoid()
    expected = (conv("f.c", y * gate) + conv("proj", x, stride=2)).relu()
    assert (block(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize(
    ("trunk", "size"),
    [*((trunk, size) for trunk, (_, size) in SMALL.items()), ("regnet", (2, 32, 36)), ("regnet", (2, 20, 9))],
)
def test_deploy_form_equals_the_trained_form(trunk: str, size: tuple[int, int, int], randomise) -> None:
    config, _ = SMALL[trunk]
    model = built(config, randomise).double()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = model.fused()
    x = torch.randn(2, *size, dtype=torch.float64)
    with torch.no_grad():
        close(fused(x), model(x), 1e-12)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in fused.parameters()}
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in fused.modules())
    assert all(m.scale is None for m in fused.modules() if isinstance(m, MultiHead))


@pytest.mark.slow
def test_parts_hand_on_tensors_only(randomise) -> None:
    config, size = SMALL["regnet"]
    fused = built(config, randomise).fused()
    x = torch.randn(2, *size)
    with torch.no_grad():
        one = torch.export.export(fused.one, (x,)).module()
        m, z, early = one(x)
        m, z, att = torch.export.export(fused.two, (m, z, early)).module()(m, z, early)
        m, cnn = torch.export.export(fused.three, (m,)).module()(m)
        merged = torch.export.export(fused.four, (m, z, att)).module()(m, z, att)
        close((early, att, cnn, merged), fused(x), 1e-6)


@pytest.mark.parametrize("form", ["trained", "deployed"])
def test_batches_do_not_mix(form: str, randomise) -> None:
    model: nn.Module = built(family.NANO, randomise)
    model = model.fused() if form == "deployed" else model
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        together, again = model(x), model(x)
        alone = [torch.cat(parts) for parts in zip(*(model(one[None]) for one in x), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    close(together, alone, 1e-5)


@pytest.mark.slow
def test_nano_runs_in_every_engine(reach_engines) -> None:
    exported = reach_engines("perceiver_nano")
    assert tuple(spec.name for spec in exported.outputs) == family.EXITS
