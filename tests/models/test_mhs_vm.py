"""MHS-VM: exact sizes, public names, the four patterns, an independent forward, the deploy form."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fourfold.models.mhs_vm as family
from fourfold.export.to_onnx import to_onnx
from fourfold.models.mhs_vm_deploy import FusedBlock, FusedScan, gated_sum
from fourfold.models.mhs_vm_routes import routes
from fourfold.models.registry import get_spec
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

TINY = family.MhsVmConfig("CXS", (12, 24), (1, 1), (1, 1), size=16, patch=2, states=3, channels=2)
PARAMS = [
    (family.THREE, 17_386_153),
    (family.FOUR, 17_257_129),
    (replace(family.DEEP, patterns="CXS"), 27_208_105),
    (family.DEEP, 26_993_065),
]


def on_meta(config: family.MhsVmConfig) -> nn.Module:
    with torch.device("meta"):
        return family.MhsVm(config)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("config", "params"), PARAMS)
def test_parameter_counts_are_exact(config: family.MhsVmConfig, params: int) -> None:
    assert count(on_meta(config)) == params


def test_specs_and_nano() -> None:
    assert get_spec("mhs_vm_3").params == PARAMS[0][1]
    assert get_spec("mhs_vm_4").params == PARAMS[1][1]
    assert 100_000 <= count(on_meta(family.NANO)) <= 600_000


def test_names_are_those_of_public_checkpoints() -> None:
    both = ("weight", "bias")
    norms = ["patch_embed.norm", "layers.0.downsample.norm", "layers_up.1.upsample.norm", "final_up.norm"]
    plain = ["layers.0.downsample.reduction", "layers_up.1.upsample.expand", "final_up.expand"]
    names = {f"{m}.{n}" for m in [*norms, "patch_embed.proj", "final_conv"] for n in both}
    names |= {f"{m}.weight" for m in plain}
    engine = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")
    for stage in ("layers.0", "layers.1", "layers_up.0", "layers_up.1"):
        at = f"{stage}.blocks.0"
        gate, mhs = f"{at}.self_attention", f"{at}.self_attention.mhs"
        names |= {f"{m}.{n}" for m in (f"{at}.ln_1", f"{gate}.conv2d", f"{gate}.out_norm") for n in both}
        names |= {f"{gate}.in_proj.weight", f"{mhs}.x_ssproj_W", f"{mhs}.x_ssproj.weight"}
        names |= {f"{mhs}.cat_norm.weight", f"{mhs}.cat_norm.bias", f"{mhs}.y_proj.weight"}
        for pattern in "CXS":
            head = f"{mhs}.scanhead_{pattern}"
            names |= {f"{head}.{m}.{n}" for m in ("mambaeng", "scanning.seq2seq_engine") for n in engine}
    assert set(on_meta(TINY).state_dict()) == {f"vmunet.{n}" for n in names}


def steps(pattern: str, which: int, height: int, width: int) -> list[list[int]]:
    order = routes(pattern, height, width)[which]
    return order.argsort().view(height, width).tolist()


@pytest.mark.parametrize(
    ("pattern", "which", "expected"),
    [
        ("C", 0, [[0, 1, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11]]),
        ("C", 2, [[0, 5, 6, 11], [1, 4, 7, 10], [2, 3, 8, 9]]),
        ("X", 0, [[0, 1, 5, 6], [2, 4, 7, 10], [3, 8, 9, 11]]),
        ("X", 2, [[6, 5, 1, 0], [10, 7, 4, 2], [11, 9, 8, 3]]),
        ("S", 0, [[0, 1, 2, 3], [9, 10, 11, 4], [8, 7, 6, 5]]),
        ("S", 2, [[8, 7, 6, 5], [9, 10, 11, 4], [0, 1, 2, 3]]),
        ("Z", 0, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        ("Z", 2, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]),
    ],
)
def test_routes_are_as_drawn(pattern: str, which: int, expected: list[list[int]]) -> None:
    assert steps(pattern, which, 3, 4) == expected


@pytest.mark.parametrize("pattern", "CXSZ")
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2), (5, 5), (4, 7)])
def test_routes_see_every_pixel_once_and_each_is_read_backwards(pattern: str, size: tuple[int, int]) -> None:
    order = routes(pattern, *size)
    every = torch.arange(size[0] * size[1])
    assert all(torch.equal(o.sort().values, every) for o in order)
    assert torch.equal(order[1], order[0].flip(0))
    assert torch.equal(order[3], order[2].flip(0))


@pytest.mark.parametrize("pattern", "CS")
def test_these_routes_never_jump(pattern: str) -> None:
    for order in routes(pattern, 6, 6):
        rows, columns = order // 6, order % 6
        assert torch.equal(rows.diff().abs() + columns.diff().abs(), torch.ones(35, dtype=torch.int64))


def test_diagonals_are_read_in_one_stroke() -> None:
    for order in routes("X", 6, 6):
        assert torch.maximum((order // 6).diff().abs(), (order % 6).diff().abs()).max() == 1


def test_gate_closes_where_sequences_agree() -> None:
    y = torch.randn(3, 4, 5, dtype=torch.float64)
    y[0] = y[0, :1]
    cv = y.std(1) / ((y - y.amin(1, keepdim=True)).mean(1) + 1e-5)
    expected = y.sum(1) * (cv - 0.5).clamp(min=0)
    assert torch.allclose(gated_sum(y, 1, 0.5), expected, rtol=1e-12, atol=1e-14)
    assert not gated_sum(y, 1, 0.5)[0].any()
    still = torch.ones(2, 4, requires_grad=True)
    gated_sum(still, 1, 0.5).sum().backward()
    assert still.grad is not None
    assert torch.equal(still.grad, torch.zeros(2, 4)), "no division by the standard deviation of zero"
    assert gated_sum(y, 1, 0.5)[1:].abs().max() > 0


def block_by_formula(w: dict[str, Tensor], at: str, x: Tensor, t: float) -> Tensor:
    """One block on (B, H, W, C), one head, sequence and pixel after the other."""

    def norm(name: str, v: Tensor) -> Tensor:
        return F.layer_norm(v, v.shape[-1:], w[f"{at}.{name}.weight"], w[f"{at}.{name}.bias"])

    gate, mhs = "self_attention", f"{at}.self_attention.mhs"
    batch, height, width, channels = x.shape
    u, z = (norm("ln_1", x) @ w[f"{at}.{gate}.in_proj.weight"].T).chunk(2, dim=-1)
    kernel, bias = w[f"{at}.{gate}.conv2d.weight"], w[f"{at}.{gate}.conv2d.bias"]
    wide = F.pad(u, (0, 0, 1, 1, 1, 1))
    taps = [wide[:, i : i + height, j : j + width] * kernel[:, 0, i, j] for i in range(3) for j in range(3)]
    u = F.silu(sum(taps) + bias).reshape(batch, -1, channels) @ w[f"{mhs}.x_ssproj_W"].T
    read = []
    for pattern, part in zip("CXS", u.chunk(3, dim=-1), strict=True):
        head, d = f"{mhs}.scanhead_{pattern}.mambaeng", channels // 3
        ys = []
        for k, order in enumerate(routes(pattern, height, width)):
            a = -w[f"{head}.A_logs"].view(4, d, -1)[k].exp()
            h, y = torch.zeros(batch, *a.shape, dtype=x.dtype), torch.empty_like(part)
            for pixel in order:
                v = part[:, pixel]
                sizes = (w[f"{head}.dt_projs_weight"].shape[-1], a.shape[-1], a.shape[-1])
                r, b, c = (v @ w[f"{head}.x_proj_weight"][k].T).split(sizes, dim=-1)
                raw = r @ w[f"{head}.dt_projs_weight"][k].T + w[f"{head}.dt_projs_bias"][k]
                dt = (1 + raw.exp()).log()
                h = (dt[..., None] * a).exp() * h + (dt * v)[..., None] * b[:, None]
                y[:, pixel] = (h * c[:, None]).sum(-1) + w[f"{head}.Ds"].view(4, d)[k] * v
            ys.append(y)
        four = torch.stack(ys)
        cv = four.std(0) / ((four - four.min(0).values).mean(0) + 1e-5)
        read.append(four.sum(0) * F.relu(cv - t))
    y = norm(f"{gate}.mhs.cat_norm", torch.cat(read, dim=-1)) @ w[f"{mhs}.y_proj.weight"].T
    return x + norm(f"{gate}.out_norm", y).reshape(x.shape) * F.silu(z)


def network_by_formula(w: dict[str, Tensor], x: Tensor, t: float) -> Tensor:
    """The two-level network around the blocks."""

    def norm(name: str, v: Tensor) -> Tensor:
        return F.layer_norm(v, v.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def shuffled(name: str, v: Tensor, out: int) -> Tensor:
        parts, (batch, height, width, _) = v @ w[f"{name}.expand.weight"].T, v.shape
        wide = torch.empty(batch, 2 * height, 2 * width, out, dtype=v.dtype)
        for i in range(2):
            for j in range(2):
                wide[:, i::2, j::2] = parts[..., (2 * i + j) * out : (2 * i + j + 1) * out]
        return norm(f"{name}.norm", wide)

    x = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=2).permute(0, 2, 3, 1)
    first = norm("patch_embed.norm", x)
    x = block_by_formula(w, "layers.0.blocks.0", first, t)
    corners = torch.cat([x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)
    second = norm("layers.0.downsample.norm", corners) @ w["layers.0.downsample.reduction.weight"].T
    x = block_by_formula(w, "layers.1.blocks.0", second, t)
    x = block_by_formula(w, "layers_up.0.blocks.0", x, t)
    x = block_by_formula(w, "layers_up.1.blocks.0", shuffled("layers_up.1.upsample", x + second, 12), t)
    score = shuffled("final_up", x, 6) @ w["final_conv.weight"][:, :, 0, 0].T + w["final_conv.bias"]
    return 1 / (1 + (-score.permute(0, 3, 1, 2)).exp())


def tiny(randomise, config: family.MhsVmConfig = TINY) -> family.MhsVm:
    """A network whose scans do not fade: the weights that begin small are made larger."""
    torch.manual_seed(1)
    model = randomise(family.MhsVm(config)).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(
                ("x_ssproj_W", "in_proj.weight", "reduction.weight", "expand.weight", "y_proj.weight")
            ):
                value.mul_(20)
    return model


def test_network_equals_its_formulae(randomise) -> None:
    model = tiny(randomise)
    x = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    state = {k.removeprefix("vmunet."): v for k, v in model.state_dict().items()}
    expected = network_by_formula(state, x, 0.5)
    assert expected.std() > 1e-2
    with torch.no_grad():
        assert (model(x) - expected).abs().max() <= 1e-11 * expected.abs().max()


@pytest.mark.parametrize("patterns", ["CXS", "CXSZ"])
def test_deploy_form_equals_the_trained_form(patterns: str, randomise, folds_exactly) -> None:
    model = tiny(randomise, replace(TINY, patterns=patterns))
    block = model.vmunet.layers[1].blocks[0]
    folds_exactly(block, torch.randn(2, 4, 4, 24))
    assert isinstance(block.fused(), FusedBlock)
    assert sum(isinstance(m, FusedScan) for m in block.fused().modules()) == 1


def test_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    model = tiny(randomise).float()
    answers_alone(model, torch.randn(3, 2, 16, 16))
    answers_alone(model.vmunet.layers[0].blocks[0].fused(), torch.randn(3, 8, 8, 12))


def test_several_classes_are_answered_as_logits(randomise) -> None:
    model = tiny(randomise, replace(TINY, classes=3)).float()
    with torch.no_grad():
        answer = model(torch.randn(1, 2, 16, 16))
    assert answer.shape == (1, 3, 16, 16)
    assert answer.min() < 0


def test_every_parameter_learns(randomise) -> None:
    model = tiny(randomise).float()
    model(torch.randn(2, 2, 16, 16)).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_deploy_form_exports_with_any_batch_size(randomise) -> None:
    block = tiny(randomise).float().vmunet.layers[1].blocks[0].fused()
    inputs = (TensorSpec("x", ("batch", 4, 4, 24)),)
    exported = to_onnx(block, "block", inputs, ("y",), opset=20, evaluate=evaluate)
    assert not exported.history[-1].refusals
    assert [node.op_type for node in exported.model.graph].count("Scan") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mhs_vm_nano", "mhs_vm_4"])
def test_engines_agree_with_torch(name: str, reach_engines) -> None:
    exported = reach_engines(name, batches=(1, 2))
    scans = [node for node in exported.model.graph if node.op_type == "Scan"]
    assert not exported.history[-1].refusals
    assert len(scans) == {"mhs_vm_nano": 6, "mhs_vm_4": 15}[name], "one for all sequences of a block"
