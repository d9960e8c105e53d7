from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from fourfold.errors import BuildError, VerdictError
from fourfold.export.artifact import Step
from fourfold.export.quiet import quiet
from fourfold.export.to_onnx import to_onnx
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

IMAGE = (TensorSpec("image", ("batch", 3, 8, 8)),)


class Tokens(nn.Module):
    """Two inputs, two outputs, one of them integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.mlp(self.embed(ids)) * scale
        return logits, logits.argmax(-1)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()).eval()


def export(module: nn.Module, inputs=IMAGE, outputs=("features",), opset: int = 20, **more):
    return to_onnx(module, "net", inputs, outputs, opset=opset, evaluate=evaluate, **more)


@pytest.mark.parametrize("opset", [18, 20, 25])
def test_the_graph_is_what_was_asked_and_answers_like_torch(opset: int, capsys) -> None:
    module = convolutional()
    exported = export(module, opset=opset, history=(Step("before", "something"),))
    assert exported.model.opset_imports[""] == opset
    assert exported.outputs == (TensorSpec("features", ("batch", 4, 3, 3)),)
    assert [step.name for step in exported.history] == ["before", "to_onnx"]
    assert [p.batch for p in exported.history[-1].parity] == [1, 3]
    image = exported.golden.inputs["image"]
    with torch.no_grad():
        expected = module(torch.from_numpy(image.copy())).numpy()
    np.testing.assert_allclose(exported.golden.outputs["features"], expected, rtol=1e-6)
    assert capsys.readouterr() == ("", "")


class Leftovers(nn.Module):
    """Much that an exporter writes and nobody needs: casts, shapes, no-ops, constants, two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop, self.mix = convolutional(), nn.Dropout(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(self.conv(nn.functional.pad(x, (1, 0, 1, 0))).clamp(0, 6).relu() * 1.0 + 0)
        y = y.flatten(2).transpose(1, 2).transpose(1, 2).transpose(1, 2)
        y = y.float().reshape(x.shape[0], -1, 4).unsqueeze(1).squeeze(1)
        return self.mix(y).softmax(-1) * torch.ones(4).cumsum(0)


def test_graph_is_as_small_as_the_exporters_own_optimizer_makes_it() -> None:
    module = Leftovers().eval()
    ours = export(module).model.graph
    free = ({0: torch.export.Dim("batch")},)
    with quiet():
        program = torch.export.export(module, (torch.randn(2, 3, 8, 8),), dynamic_shapes=free, strict=False)
        theirs = torch.onnx.export(program, dynamo=True, opset_version=20, optimize=True, verbose=False)
    assert theirs is not None
    assert Counter(n.op_type for n in ours) == Counter(n.op_type for n in theirs.model.graph)


def test_halves_stay_slices_and_answer_like_torch() -> None:
    class Halves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[..., :4] * x[..., 4:].sigmoid()

    # A rule that finds pairs tries every operator with all others, which large graphs have no time for.
    assert [n.op_type for n in export(Halves()).model.graph].count("Slice") == 2


def test_names_lead_back_to_the_modules() -> None:
    graph = export(nn.Sequential(convolutional(), nn.Conv2d(4, 4, 1)).eval()).model.graph
    names = [node.name for node in graph]
    assert any(name and name.startswith("0.2/Relu") for name in names)
    assert any(name and name.startswith("1/Conv") for name in names)
    assert "1.weight" in graph.initializers
    assert all(not node.metadata_props for node in graph)


def test_several_inputs_and_outputs() -> None:
    inputs = (TensorSpec("ids", ("batch", "length"), "int64"), TensorSpec("scale", (1,)))
    exported = export(Tokens().eval(), inputs, ("logits", "label"))
    assert [(o.name, o.shape, o.dtype) for o in exported.outputs] == [
        ("logits", ("batch", "length", 3), "float32"),
        ("label", ("batch", "length"), "int64"),
    ]


def test_a_wrong_number_of_outputs_is_named() -> None:
    with pytest.raises(BuildError, match="outputs a, b, got one that returns 1"):
        export(convolutional(), outputs=("a", "b"))


@pytest.mark.parametrize("opset", [17, 26])
def test_opsets_that_are_written_wrong_are_refused(opset: int) -> None:
    with pytest.raises(BuildError, match="opset from 18 to 25"):
        export(convolutional(), opset=opset)


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return x * 2


class Exotic(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_exp(x)


class Text(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"y": x, "name": "y"}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Branches(), r"test_to_onnx\.py, line \d+: if x\.sum\(\) > 0"),
        (Exotic(), "linalg_matrix_exp"),
        (Text(), "returns tensors, got str"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(module: nn.Module, words: str) -> None:
    with pytest.raises(BuildError, match=words) as caught:
        export(module)
    assert "\n" not in str(caught.value)


class Halves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)


def test_a_network_bound_to_one_batch_size_says_why() -> None:
    exported = export(Halves())
    assert exported.inputs[0].shape == (1, 3, 8, 8)
    assert "one batch size only" in exported.history[-1].refusals[0].reason


def test_a_graph_that_answers_otherwise_is_caught() -> None:
    def wrong(model):
        run = evaluate(model)
        return lambda feed: {name: array * 1.01 for name, array in run(feed).items()}

    with pytest.raises(VerdictError, match="step 'to_onnx'"):
        to_onnx(convolutional(), "net", IMAGE, ("features",), opset=20, evaluate=wrong)
