"""The SMT family: exact sizes, public parameter names, an independent forward, and the deploy form."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fourfold.models.smt as smt
from fourfold.models.fusible import Fusible
from fourfold.models.preprocess import prepare_batch
from fourfold.models.registry import get_spec
from fourfold.models.smt_blocks import Modulation
from fourfold.models.weights import build_model, load_weights, shipped_weights

SMALL_L = smt.SmtConfig(
    (16, 24, 32, 48), (1, 1, 2, 1), (8, 6, 4, 2), attention_heads=(4, 6), stem_kernel=7, layer_scale=1e-4
)
CONFIGS = {"smt_t": smt.T, "smt_s": smt.S, "smt_b": smt.B, "smt_l": smt.L, "smt_nano": smt.NANO}
PARAMS = {"smt_t": 11_506_536, "smt_s": 22_550_952, "smt_b": 32_037_352, "smt_l": 80_620_264}
DATA = Path(smt.__file__).parents[1] / "calibration" / "data" / "fashion_mnist.npz"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return smt.Smt(CONFIGS[name])


def randomised(config: smt.SmtConfig) -> smt.Smt:
    """Build a model whose statistics, biases and scales are far from their initial zeros and ones."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = smt.Smt(config).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.2, 2, generator=generator)
            elif value.is_floating_point() and value.ndim == 1:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
            elif key.endswith("q.weight"):
                value.mul_(5)  # attention must not be uniform
    return model


@pytest.mark.parametrize(("name", "params"), PARAMS.items())
def test_parameter_count_is_exact(name: str, params: int) -> None:
    assert sum(p.numel() for p in on_meta(name).parameters()) == params == get_spec(name).params


def test_layer_scale_accounts_for_the_published_difference() -> None:
    model = on_meta("smt_l")
    scales = sum(p.numel() for n, p in model.named_parameters() if ".gamma_" in n)
    assert PARAMS["smt_l"] - scales == 80_589_544


def test_head_of_the_large_network_for_all_of_imagenet_counts_as_published() -> None:
    with torch.device("meta"):
        model = smt.Smt(replace(smt.L, classes=21_841))
    assert sum(p.numel() for p in model.parameters()) == 96_646_993


def test_nano_is_small() -> None:
    assert 200_000 <= sum(p.numel() for p in on_meta("smt_nano").parameters()) <= 600_000


def expected_names(depths: tuple[int, ...], layer_scale: bool) -> set[str]:
    """Write the public checkpoint's names down without looking at the modules."""
    both = ("weight", "bias")
    norm = (*both, "running_mean", "running_var", "num_batches_tracked")
    names = {"patch_embed1.conv.0.weight"} | {f"patch_embed1.conv.1.{n}" for n in norm}
    names |= {f"{m}.{n}" for m in ("patch_embed1.conv.3", "patch_embed1.norm", "head") for n in both}
    for stage, depth in enumerate(depths, start=1):
        names |= {f"norm{stage}.{n}" for n in both}
        if stage > 1:
            names |= {f"patch_embed{stage}.{m}.{n}" for m in ("proj", "norm") for n in both}
        for j in range(depth):
            at = f"block{stage}.{j}"
            attention = stage == 4 or (stage == 3 and j % 2 == 1)
            convs = [f"attn.local_conv_{i}" for i in (1, 2, 3, 4)]
            inside = ["q", "kv", "local_conv"] if attention else ["v", "s", "proj0", "proj1"]
            parts = ["norm1", "norm2", "mlp.fc1", "mlp.fc2", "mlp.dwconv.dwconv", "attn.proj"]
            parts += [f"attn.{m}" for m in inside] + ([] if attention else convs)
            names |= {f"{at}.{m}.{n}" for m in parts for n in both}
            names |= set() if attention else {f"{at}.attn.bn.{n}" for n in norm}
            names |= {f"{at}.gamma_1", f"{at}.gamma_2"} if layer_scale else set()
    return names


@pytest.mark.parametrize("name", CONFIGS)
def test_names_are_those_of_public_checkpoints(name: str) -> None:
    config = CONFIGS[name]
    wanted = expected_names(config.depths, config.layer_scale is not None)
    assert set(on_meta(name).state_dict()) == wanted


def test_a_public_checkpoint_loads_unchanged(tmp_path: Path) -> None:
    source, target = randomised(smt.NANO), smt.Smt(smt.NANO).eval()
    torch.save({"model": source.state_dict()}, tmp_path / "smt.pth")
    load_weights(target, tmp_path / "smt.pth")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(source(x), target(x))


def modulation_by_loops(block: Modulation, x: Tensor) -> Tensor:
    """Compute scale-aware modulation channel by channel, from the formulae."""
    batch, height, width, dim = x.shape
    head = dim // 4
    s, v = block.s(x), block.v(x)
    mixed = torch.zeros(batch, dim, height, width, dtype=x.dtype)
    for i in range(4):
        conv = getattr(block, f"local_conv_{i + 1}")
        for g in range(head):
            channel = s[..., i * head + g].unsqueeze(1)
            out = F.conv2d(channel, conv.weight[g : g + 1], conv.bias[g : g + 1], padding=1 + i)
            mixed[:, 4 * g + i] = out[:, 0]
    wide = []
    for g in range(head):
        weight = block.proj0.weight[8 * g : 8 * g + 8, :, 0, 0]
        group = torch.einsum("oi,bihw->bohw", weight, mixed[:, 4 * g : 4 * g + 4])
        wide.append(group + block.proj0.bias[8 * g : 8 * g + 8, None, None])
    modulator = block.proj1(F.gelu(block.bn(torch.cat(wide, 1))))
    return block.proj(modulator.permute(0, 2, 3, 1) * v)


def test_modulation_equals_its_formula() -> None:
    torch.manual_seed(1)
    block = Modulation(16).double().eval()
    with torch.no_grad():
        for value in (*block.parameters(), *block.buffers()):
            if value.is_floating_point():
                value.uniform_(0.1, 1)
    x = torch.randn(2, 5, 7, 16, dtype=torch.float64)
    expected = modulation_by_loops(block, x)
    assert (block(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_attention_equals_its_formula() -> None:
    torch.manual_seed(1)
    block = smt.Attention(12, heads=3).double().eval()
    x = torch.randn(2, 3, 5, 12, dtype=torch.float64)
    k, v = block.kv(x).split(12, dim=-1)
    heads = [t.reshape(2, 15, 3, 4).permute(0, 2, 1, 3) for t in (block.q(x), k, v)]
    mixed = F.scaled_dot_product_attention(*heads).permute(0, 2, 1, 3).reshape(2, 3, 5, 12)
    local = block.local_conv(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    expected = block.proj(mixed + local)
    assert (block(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(smt.NANO, id="nano"),
        pytest.param(SMALL_L, id="small_l"),
        pytest.param(smt.T, id="t"),
        *(
            pytest.param(c, id=n, marks=pytest.mark.slow)
            for n, c in (("s", smt.S), ("b", smt.B), ("l", smt.L))
        ),
    ],
)
def test_deploy_form_equals_the_trained_form(config: smt.SmtConfig) -> None:
    model = randomised(config)
    size = 28 if config is smt.NANO else 64
    x = torch.randn(2, config.channels, size, size, generator=torch.Generator().manual_seed(0))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert isinstance(model, Fusible)
    folded = model.fused()
    with torch.no_grad():
        expected, actual = model(x), folded(x)
    assert expected.std(dim=0).max() > 1e-3 * expected.abs().max(), "the answer must depend on the input"
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in folded.parameters()}


@pytest.mark.parametrize("config", [smt.NANO, SMALL_L], ids=["nano", "small_l"])
def test_every_fold_is_exact_in_float64(config: smt.SmtConfig, folds_exactly) -> None:
    """Batch norms, layer scales, the scale of the queries, and x + DW(x) as one depth-wise convolution."""
    size = 28 if config is smt.NANO else 64
    folds_exactly(randomised(config), torch.randn(2, config.channels, size, size))


def test_deploy_form_has_no_norm_and_no_scale_left() -> None:
    folded = randomised(SMALL_L).fused()
    assert not any(isinstance(m, nn.BatchNorm2d | Fusible) for m in folded.modules())
    assert not any("gamma" in name for name, _ in folded.named_parameters())


@pytest.mark.parametrize("size", [(28, 28), (30, 26), (13, 21)])
def test_any_size_and_batch_runs(size: tuple[int, int]) -> None:
    model = randomised(smt.NANO)
    x = torch.randn(3, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = model(x), torch.cat([model(one[None]) for one in x])
    assert together.shape == (3, 10)
    assert (together - alone).abs().max() <= 1e-5 * together.abs().max()


def test_shipped_weights_score_what_their_record_says() -> None:
    spec = get_spec("smt_nano")
    path = shipped_weights(spec)
    assert path is not None
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["accuracy_10000"] >= 0.91
    assert spec.preprocess is not None
    data = np.load(DATA)
    images = torch.from_numpy(prepare_batch(data["test_images"], spec.preprocess))
    model = build_model(spec)
    with torch.no_grad():
        answers = torch.cat([model(x).argmax(1) for x in images.split(250)]).numpy()
    assert abs((answers == data["test_labels"]).mean() - record["accuracy_shipped_2000"]) <= 0.001
    assert tuple(data["classes"]) == spec.labels
