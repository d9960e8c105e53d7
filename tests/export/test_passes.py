import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from fourfold.errors import BuildError, UsageError, VerdictError
from fourfold.export import passes
from fourfold.export.passes import COMMON, PASSES, rewrite
from fourfold.export.to_onnx import to_onnx
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.proj = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q = self.q(x).reshape(batch, tokens, 2, 4).transpose(1, 2)
        k, v = self.kv(x).reshape(batch, tokens, 2, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, 8))


@pytest.fixture(scope="module")
def attention():
    torch.manual_seed(0)
    inputs = (TensorSpec("tokens", ("batch", 5, 8)),)
    return to_onnx(Attention().eval(), "attention", inputs, ("y",), opset=20, evaluate=evaluate)


def test_the_common_rewrites_shorten_and_keep_the_answers(attention) -> None:
    nodes = attention.model.graph.num_nodes()
    done = rewrite(attention, COMMON, evaluate=evaluate)
    assert attention.model.graph.num_nodes() == nodes
    assert done.model.graph.num_nodes() < nodes - 8
    assert "Shape" not in {node.op_type for node in done.model.graph}
    answers = evaluate(done.model)(done.golden.inputs)
    np.testing.assert_allclose(answers["y"], done.golden.outputs["y"], atol=1e-5)


def test_every_rewrite_leaves_one_step_with_its_proof(attention) -> None:
    steps = rewrite(attention, tuple(PASSES), evaluate=evaluate).history[1:]
    assert [step.name for step in steps] == [f"rewrite: {name}" for name in PASSES]
    for step in steps:
        assert [p.batch for p in step.parity] == ([1, 3] if step.changed else [])
        assert step.nodes is not None


def test_a_second_time_there_is_nothing_to_do(attention) -> None:
    once = rewrite(attention, COMMON, evaluate=evaluate)
    twice = rewrite(once, COMMON, evaluate=evaluate)
    assert [s.changed for s in twice.history[len(once.history) :]] == [0] * len(COMMON)
    assert twice.model is once.model


class Spoil(ir.passes.InPlacePass):
    """A rewrite that is wrong by one part in a hundred."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        value = next(v for v in model.graph.initializers.values() if v.name == "proj.bias")
        value.const_value = ir.tensor(value.const_value.numpy() * 1.01 + 0.01, name=value.name)
        return ir.passes.PassResult(model, True)


class Break(ir.passes.InPlacePass):
    def call(self, model: ir.Model) -> ir.passes.PassResult:
        raise RuntimeError(model.graph.name)


def test_a_wrong_rewrite_is_caught_where_it_happens(attention, monkeypatch) -> None:
    monkeypatch.setitem(passes.PASSES, "spoil", Spoil)
    with pytest.raises(VerdictError, match=r"step 'rewrite: spoil'.*'y'"):
        rewrite(attention, ("fold_constants", "spoil", "tidy"), evaluate=evaluate)


def test_a_rewrite_that_fails_is_named(attention, monkeypatch) -> None:
    monkeypatch.setitem(passes.PASSES, "break", Break)
    with pytest.raises(BuildError, match="rewrite 'break'"):
        rewrite(attention, ("break",), evaluate=evaluate)


def test_an_unknown_rewrite_is_named_before_anything_runs(attention) -> None:
    with pytest.raises(UsageError, match="did you mean fold_scale"):
        rewrite(attention, ("fold_scal",), evaluate=evaluate)
