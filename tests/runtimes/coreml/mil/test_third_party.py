"""Packages as others make them: coremltools' torch front end and its compressions, beside torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.export.parity import parity
from fourfold.export.quiet import quiet
from fourfold.runtimes.coreml.mil.program import load_program


class Mixed(nn.Module):
    """Convolutions and a block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.stem_norm = nn.BatchNorm2d(16)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 32, 1)
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)
        self.mlp = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem_norm(self.stem(x)))
        x = F.max_pool2d(x + F.silu(self.deep(x)), 2, 2)
        x = F.relu6(self.wide(x)).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        x = x + self.mlp(x)
        return self.head(x.mean(1) + x.amax(1))


Made = tuple[nn.Module, Any]


@pytest.fixture(scope="module")
def made(ct: Any) -> Callable[[str, str], Made]:
    """A network with everything alive, and coremltools' model of it."""
    kept: dict[tuple[str, str], Made] = {}

    def run(target: str, precision: str) -> Made:
        if (target, precision) not in kept:
            torch.manual_seed(0)
            net = Mixed().eval()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            with quiet():
                traced = torch.export.export(net, (torch.rand(1, 3, 16, 16),)).run_decompositions({})
                model = ct.convert(
                    traced,
                    inputs=[ct.TensorType(name="x", shape=(1, 3, 16, 16))],
                    minimum_deployment_target=getattr(ct.target, target),
                    compute_precision=getattr(ct.precision, precision),
                )
            kept[target, precision] = net, model
        return kept[target, precision]

    return run


def compare(net: nn.Module, path: Path, kind: str) -> float:
    program = load_program(path)
    x = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
    answer = next(iter(program.run({"x": x.astype(program.inputs[0].dtype)}).values()))
    with torch.no_grad():
        wanted = {"y": net(torch.from_numpy(x)).numpy()}
    found = parity(kind, wanted, {"y": answer.astype(np.float32)}, names=("torch", "package"), batch=1)
    assert found.ok, found
    return found.sqnr_db


@pytest.mark.parametrize(
    ("target", "precision", "kind"),
    [("iOS16", "FLOAT32", "fp32"), ("iOS18", "FLOAT32", "fp32"), ("iOS16", "FLOAT16", "fp16")],
)
def test_a_network_of_the_torch_front_end(
    made: Any, tmp_path: Path, target: str, precision: str, kind: str
) -> None:
    torch_net, model = made(target, precision)
    model.save(str(tmp_path / "net.mlpackage"))
    compare(torch_net, tmp_path / "net.mlpackage", kind)


def compressed(opt: Any, how: str) -> Any:
    if how == "palettes":
        return opt.palettize_weights, opt.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=0)
    if how == "palettes by group":
        options = {"granularity": "per_grouped_channel", "group_size": 4}
        return opt.palettize_weights, opt.OpPalettizerConfig(
            mode="uniform", nbits=4, weight_threshold=0, **options
        )
    if how == "int4 blocks":
        options = {"dtype": "int4", "granularity": "per_block", "block_size": 16}
        return opt.linear_quantize_weights, opt.OpLinearQuantizerConfig(
            mode="linear", weight_threshold=0, **options
        )
    if how == "int8":
        return opt.linear_quantize_weights, opt.OpLinearQuantizerConfig(weight_threshold=0)
    return opt.prune_weights, opt.OpMagnitudePrunerConfig(target_sparsity=0.1, weight_threshold=0)


@pytest.mark.parametrize(
    ("how", "target"),
    [
        ("int8", "iOS16"),
        ("palettes", "iOS16"),
        ("zeros", "iOS16"),
        ("palettes by group", "iOS18"),
        ("int4 blocks", "iOS18"),
        ("zeros", "iOS18"),
    ],
)
def test_a_compressed_network(made: Any, tmp_path: Path, how: str, target: str) -> None:
    with quiet():
        from coremltools.optimize import coreml as opt

        torch_net, model = made(target, "FLOAT32")
        function, config = compressed(opt, how)
        small = function(model, opt.OptimizationConfig(global_config=config))
        small.save(str(tmp_path / "net.mlpackage"))
    program = load_program(tmp_path / "net.mlpackage")
    assert any(kind.startswith("constexpr_") for kind, _ in program.counts)
    compare(torch_net, tmp_path / "net.mlpackage", "int8")
    _decompressed_right(small, program)


def _decompressed_right(model: Any, program: Any) -> None:
    """Hold every decompressed weight against coremltools' own decompression."""
    compared = 0
    for op in model._mil_program.functions["main"].operations:
        if not op.op_type.startswith("constexpr_"):
            continue
        with quiet():
            value = op.materialized_val_inference()
        values = value if isinstance(value, tuple) else (value,)
        for output, wanted in zip(op.outputs, values, strict=True):
            got = program.constants[output.name].value.numpy()
            np.testing.assert_allclose(
                got, np.asarray(wanted).astype(got.dtype), rtol=1e-6, err_msg=output.name
            )
            compared += 1
    assert compared
