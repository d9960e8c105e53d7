"""The selective scan: its definition, its gradient, causality, odd sizes, the one form that is exported."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.export.passes import COMMON, rewrite
from fourfold.export.rules.scan_products import ScanProducts
from fourfold.export.rules.unroll_scan import UnrollScan
from fourfold.export.to_onnx import to_onnx
from fourfold.models.scan import selective_scan, softplus
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

Sizes = tuple[Any, ...]
Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def operands(
    length: int, lead: tuple[int, ...], inner: int, states: int, rates: tuple[int, ...] = ()
) -> Operands:
    generator = torch.Generator().manual_seed(length + inner)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    u, v = normal(length, *lead, inner), normal(length, *lead, inner)
    a = -normal(*rates, states, inner).exp()
    return u, F.softplus(v), a, normal(length, *lead, states), normal(length, *lead, states)


def by_definition(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One number at a time over states."""
    a = a.expand(*u.shape[1:-1], *a.shape[-2:])
    answers = torch.zeros_like(u)
    for n in range(b.shape[-1]):
        h = torch.zeros_like(u[0])
        for t in range(len(u)):
            h = torch.exp(dt[t] * a[..., n, :]) * h + u[t] * b[t, ..., n, None]
            answers[t] += c[t, ..., n, None] * h
    return answers


SIZES = [
    pytest.param((5, (2, 2), 3, 2), id="batch_and_paths"),
    pytest.param((7, (2, 3), 2, 3, (3,)), id="rates_per_path"),
    pytest.param((6, (), 3, 2), id="no_leading_axis"),
    pytest.param((1, (2,), 3, 2), id="one_step"),
    pytest.param((2, (1,), 1, 1), id="two_steps_of_one_number"),
]


@pytest.mark.parametrize("sizes", SIZES)
def test_scan_equals_its_definition(sizes: Sizes) -> None:
    expected = by_definition(*operands(*sizes))
    assert (selective_scan(*operands(*sizes)) - expected).abs().max() <= 1e-13 * expected.abs().max()


@pytest.mark.parametrize("sizes", SIZES)
def test_gradient_equals_finite_differences(sizes: Sizes) -> None:
    inputs = [t.requires_grad_() for t in operands(*sizes)]
    assert torch.autograd.gradcheck(selective_scan, inputs)


def test_float32_stays_near_float64() -> None:
    exact = operands(400, (2,), 6, 8)
    expected = by_definition(*exact)
    answer = selective_scan(*(t.float() for t in exact))
    assert (answer - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_later_steps_change_nothing_before_them() -> None:
    inputs = operands(12, (2,), 3, 4)
    changed = [t.clone() for t in inputs]
    for tensor in (changed[0], changed[1], changed[3], changed[4]):
        tensor[7:] += 1
    before, after = selective_scan(*inputs), selective_scan(*changed)
    assert torch.equal(before[:7], after[:7])
    assert (before[7:] - after[7:]).abs().amin(dim=(1, 2)).min() > 0


def test_a_step_of_zero_keeps_the_state_and_a_long_one_forgets_it() -> None:
    u, dt, a, b, c = operands(4, (), 3, 2)
    u[1:] = 0
    dt[1:2], dt[2:] = 0, 1e6
    c = c[:1].expand_as(c)
    answer = selective_scan(u, dt, a, b, c)
    assert torch.equal(answer[1], answer[0])
    assert answer[0].abs().min() > 0
    assert not answer[2:].any()


def test_shapes_alone_give_a_shape() -> None:
    with torch.device("meta"):
        arguments = [torch.empty(9, 2, 3), torch.empty(9, 2, 3), torch.empty(4, 3)]
        gates = [torch.empty(9, 2, 4)] * 2
    answer = selective_scan(*arguments, *gates)
    assert answer.is_meta
    assert answer.shape == (9, 2, 3)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 4e-7), (torch.float64, 1e-15)])
def test_softplus_keeps_every_digit(dtype: torch.dtype, error: float) -> None:
    x = torch.linspace(-80, 80, 40_001, dtype=dtype)
    exact = np.logaddexp(0, x.double().numpy().astype(np.longdouble))
    assert (np.abs(softplus(x).numpy() - exact) / exact).max() <= error


class Steps(nn.Module):
    """Step sizes alone."""

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x)


def test_softplus_keeps_every_digit_in_both_engines() -> None:
    openvino = pytest.importorskip("openvino")
    x = np.linspace(-30, 90, 4001, dtype=np.float32)[None]
    graph = to_onnx(
        Steps(), "steps", (TensorSpec("x", ("batch", 4001)),), ("y",), opset=20, evaluate=evaluate
    )
    graph = rewrite(graph, COMMON, evaluate=evaluate)
    model = openvino.Core().read_model(ir.to_proto(graph.model).SerializeToString())
    plan = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    exact = np.logaddexp(0, x.astype(np.float64))
    for answer in (evaluate(graph.model)({"x": x})["y"], plan({"x": x})["y"]):
        assert (np.abs(answer - exact) / exact).max() <= 4e-7


class Scanned(nn.Module):
    """A scan whose decay rates are a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(-torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, u: Tensor, b: Tensor) -> Tensor:
        """(B, L, G, I) and (B, L, G, N) to (L, B, G, I)."""
        u, b = u.transpose(0, 1), b.transpose(0, 1)
        return selective_scan(u, softplus(u + 1), self.rates, b, b.cos())


@pytest.fixture(scope="module")
def exported() -> ir.Model:
    """The graph; ``to_onnx`` has compared it with torch at two batch sizes."""
    inputs = (TensorSpec("u", ("batch", 11, 3, 5)), TensorSpec("b", ("batch", 11, 3, 4)))
    return to_onnx(Scanned().eval(), "scanned", inputs, ("y",), opset=20, evaluate=evaluate).model


def test_export_is_one_node_whatever_the_length(exported: ir.Model) -> None:
    (scan,) = (node for node in exported.graph if node.op_type == "Scan")
    body = [node.op_type for node in scan.attributes["body"].as_graph()]
    assert sorted(body) == ["Add", "Exp", "Mul", "Mul", "Mul", "Mul", "ReduceSum"]


@pytest.mark.parametrize("unrolled", [False, True])
def test_openvino_runs_the_exported_scan_right(exported: ir.Model, unrolled: bool) -> None:
    openvino = pytest.importorskip("openvino")
    from fourfold.runtimes.ov_traps import scan_traps

    if unrolled:
        exported = exported.clone()
        assert ScanProducts()(exported).modified
        assert UnrollScan()(exported).modified
    rng = np.random.default_rng(1)
    for batch in (1, 3):
        model = openvino.Core().read_model(ir.to_proto(exported).SerializeToString())
        feed = {"u": rng.standard_normal((batch, 11, 3, 5)), "b": rng.standard_normal((batch, 11, 3, 4))}
        feed = {name: array.astype(np.float32) for name, array in feed.items()}
        expected = evaluate(exported)(feed)["y"]
        # With its sizes fixed a graph can fall into the trap of the state as a second factor.
        model.reshape({name: array.shape for name, array in feed.items()})
        assert not list(scan_traps(model))
        answer = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feed)["y"]
        assert np.abs(answer - expected).max() <= 1e-6 * np.abs(expected).max()
