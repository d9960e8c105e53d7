"""What a program is as a whole: rounding, tracing, what it takes and gives, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fourfold.errors import BuildError, UsageError
from fourfold.export.quiet import quiet
from fourfold.runtimes.coreml.mil.program import load_program
from fourfold.runtimes.coreml.mil.table import OPERATORS

rng = np.random.default_rng(5)
NET = "com.apple.CoreML/model.mlmodel"


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


WEIGHT = normal(8, 6)


def two_layers(mb: Any, x: Any) -> Any:
    hidden = mb.linear(x=x, weight=np.tile(WEIGHT, (4, 1)), name="hidden")
    return mb.softmax(x=mb.mul(x=hidden, y=30.0, name="scaled"), name="y")


@pytest.fixture(scope="module")
def saved(save: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    return save(folder, two_layers, {"x": normal(3, 6)}, target="iOS17", half=True)


@pytest.fixture
def damaged(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "net.mlpackage"))


def half(x: torch.Tensor) -> torch.Tensor:
    return x.half().float()


def test_every_operator_of_ios15_to_ios18_is_known(mb: Any) -> None:
    with quiet():
        from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
    # const is read by the compiler; the others never leave coremltools.
    absent = set(SSAOpRegistry.core_ops) - set(OPERATORS)
    assert absent == {"const", "_const_symbolic"}


def test_as_written_rounds_after_every_operator(saved: Path) -> None:
    x = normal(3, 6)
    answer = load_program(saved).run({"x": x})["y"]
    weight = half(torch.from_numpy(np.tile(WEIGHT, (4, 1))))
    hidden = half(half(torch.from_numpy(x)) @ weight.T)
    np.testing.assert_array_equal(answer, half(half(hidden * 30).softmax(-1)).numpy())


def test_fp32_rounds_constants_only(saved: Path) -> None:
    x = normal(3, 6)
    answer = load_program(saved).run({"x": x}, rounding="fp32")["y"]
    weight = half(torch.from_numpy(np.tile(WEIGHT, (4, 1)))).double()
    exact = (torch.from_numpy(x).double() @ weight.T * 30).softmax(-1)
    np.testing.assert_allclose(answer, exact, atol=1e-6)


def test_what_overflows_fp16_is_infinite(saved: Path) -> None:
    program = load_program(saved)
    feed = {"x": np.full((3, 6), 3000, np.float32)}
    scaled = next(name for name in program.names() if name.startswith("scaled"))
    assert np.isinf(program.run(feed, trace=[scaled])[scaled]).any()
    assert np.isfinite(program.run(feed, rounding="fp32", trace=[scaled])[scaled]).all()


def test_any_tensor_is_traced_by_name(saved: Path) -> None:
    program, feed = load_program(saved), {"x": normal(3, 6)}
    tensors = [name for name in program.names() if not name.endswith(("dtype_0", "axis_0"))]
    traced = program.run(feed, trace=tensors)
    assert {"x", "y"} < set(traced)
    hidden = next(name for name in tensors if name.startswith("hidden"))
    assert traced[hidden].shape == (3, 32)
    weight = next(name for name in tensors if "weight" in name)
    np.testing.assert_array_equal(traced[weight], np.tile(WEIGHT, (4, 1)).astype(np.float16))
    with pytest.raises(UsageError, match=r"expected a known tensor, got .hidden_cast.; did you mean"):
        program.run(feed, trace=["hidden_cast"])


def test_values_are_dropped_after_their_last_reader(saved: Path) -> None:
    block = load_program(saved).block
    ended = [name for _, names in block.steps for name in names]
    made = [output.name for step, _ in block.steps for output in step.outputs]
    assert set(ended) == {"x", *made} - set(block.output_names)
    assert len(ended) == len(set(ended))


def test_answers_are_new_arrays(saved: Path) -> None:
    program, feed = load_program(saved), {"x": normal(3, 6)}
    first = program.run(feed)["y"]
    kept = first.copy()
    first += 1
    np.testing.assert_array_equal(program.run(feed)["y"], kept)


def test_inputs_are_checked(saved: Path) -> None:
    program = load_program(saved)
    with pytest.raises(UsageError, match=r"expected x of shape \(3, 6\), got \(3, 7\)"):
        program.run({"x": normal(3, 7)})
    with pytest.raises(UsageError, match="expected x of float32, got float64"):
        program.run({"x": normal(3, 6).astype(np.float64)})
    with pytest.raises(UsageError, match="expected the input 'x', got no input"):
        program.run({})
    with pytest.raises(UsageError, match="expected a known rounding, got 'fp61'"):
        program.run({"x": normal(3, 6)}, rounding="fp61")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "Manifest.json").unlink(), "a folder without Manifest.json"),
        (lambda p: (p / "Manifest.json").write_text("{"), "names the model, got JSONDecode"),
        (lambda p: (p / "Manifest.json").write_text("[1]"), "names the model, got TypeError"),
        (lambda p: (p / "Data" / NET).unlink(), "the model that Manifest.json names, got no file"),
        (lambda p: (p / "Data" / NET).write_bytes(b""), "a specification of 1 to .* bytes, got 0"),
        (lambda p: (p / "Data" / NET).write_bytes(b"\xff" * 99), "a Core ML specification, got other bytes"),
        (lambda p: _cut(p / "Data" / NET), "got "),
    ],
)
def test_a_damaged_package_is_refused(damaged: Path, damage: Any, message: str) -> None:
    damage(damaged)
    with pytest.raises(BuildError, match=f"net.mlpackage: expected .*{message}"):
        load_program(damaged)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "its weights in 'weights/weight.bin', got no such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), "bytes for a constant of shape .* got "),
        (lambda p: p.write_bytes(p.read_bytes()[:70]), "a constant at byte .*, got the end of the file"),
        (
            lambda p: p.write_bytes(bytes(p.stat().st_size)),
            "a constant of float16 at byte .*, got other bytes",
        ),
    ],
)
def test_damaged_weights_are_refused(damaged: Path, damage: Any, message: str) -> None:
    damage(damaged / "Data/com.apple.CoreML/weights/weight.bin")
    with pytest.raises(BuildError, match=message):
        load_program(damaged).run({"x": normal(3, 6)})


def test_every_cut_of_a_specification_is_refused(damaged: Path) -> None:
    file = damaged / "Data" / NET
    whole = file.read_bytes()
    for size in range(1, len(whole), max(1, len(whole) // 60)):
        file.write_bytes(whole[:size])
        try:
            load_program(damaged).run({"x": normal(3, 6)})
        except (BuildError, UsageError):
            continue
        pytest.fail(f"a specification cut to {size} of {len(whole)} bytes evaluated")


def test_flipped_bytes_end_in_an_answer_or_an_error_of_ours(damaged: Path) -> None:
    file = damaged / "Data" / NET
    whole = bytearray(file.read_bytes())
    outcomes: list[bool] = []
    for _ in range(150):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            changed[place] = rng.integers(0, 256)
        file.write_bytes(changed)
        try:
            load_program(damaged).run({"x": normal(3, 6)})
            outcomes.append(True)
        except (BuildError, UsageError):
            outcomes.append(False)
    assert not all(outcomes)


def test_a_manifest_may_not_lead_out_of_its_package(damaged: Path) -> None:
    manifest = json.loads((damaged / "Manifest.json").read_text())
    shutil.copy(damaged / "Data" / NET, damaged.parent / "stolen.mlmodel")
    for item in manifest["itemInfoEntries"].values():
        item["path"] = "../../stolen.mlmodel"
    (damaged / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BuildError, match=r"the model that Manifest\.json names"):
        load_program(damaged)


def test_weights_may_not_lead_out_of_their_package(damaged: Path) -> None:
    file = damaged / "Data" / NET
    file.write_bytes(
        file.read_bytes().replace(b"@model_path/weights/weight.bin", b"@model_path/../../../../etcpwd")
    )
    with pytest.raises(BuildError, match="weights inside the package"):
        load_program(damaged).run({"x": normal(3, 6)})


def test_what_is_no_program_is_refused(ct: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which does not exist"):
        load_program(tmp_path / "none.mlpackage")
    (tmp_path / "done.mlmodelc").mkdir()
    with pytest.raises(UsageError, match="compiled by Apple's tools"):
        load_program(tmp_path / "done.mlmodelc")
    with quiet():
        from coremltools.proto import Model_pb2

        old = Model_pb2.Model(specificationVersion=4)
        old.neuralNetwork.layers.add().name = "a"
        (tmp_path / "old.mlmodel").write_bytes(old.SerializeToString())
        line = Model_pb2.Model(specificationVersion=4)
        line.pipeline.models.add()
        (tmp_path / "line.mlmodel").write_bytes(line.SerializeToString())
        tree = Model_pb2.Model(specificationVersion=4)
        tree.treeEnsembleRegressor.treeEnsemble.numPredictionDimensions = 1
        (tmp_path / "tree.mlmodel").write_bytes(tree.SerializeToString())
    for name, reason in (
        ("old", "a neural network of the older layer format; convert it to an ML Program"),
        ("line", "a pipeline of several models"),
        ("tree", "a model of type treeEnsembleRegressor, which holds no operators"),
    ):
        with pytest.raises(UsageError, match=f"{name}.mlmodel: expected an ML Program, got {reason}"):
            load_program(tmp_path / f"{name}.mlmodel")


def test_unknown_operators_are_named_with_where_they_are(damaged: Path) -> None:
    file = damaged / "Data" / NET
    file.write_bytes(file.read_bytes().replace(b"softmax", b"sortmix"))
    program = load_program(damaged)
    assert list(program.unknown) == ["sortmix"]
    with pytest.raises(BuildError, match=r"operators that are known here, got sortmix \(first at 'y"):
        program.run({"x": normal(3, 6)})


def test_an_unknown_function_is_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="expected a known function, got 'man'; did you mean main"):
        load_program(saved, function="man")


def test_a_free_batch_takes_what_the_package_allows(ct: Any, save: Any, tmp_path: Path) -> None:
    with quiet():
        shape = ct.Shape((ct.RangeDim(2, 5, default=3), 6))
    from coremltools.converters.mil.mil import get_new_symbol

    path = save(
        tmp_path,
        two_layers,
        {"x": normal(3, 6)},
        shapes={"x": (get_new_symbol(), 6)},
        inputs=[ct.TensorType(name="x", shape=shape)],
    )
    program = load_program(path)
    assert program.inputs[0].shape == ("batch", 6)
    assert program.outputs[0].shape == ("batch", 32)
    for batch in (2, 5):
        assert program.run({"x": normal(batch, 6)})["y"].shape == (batch, 32)
    with pytest.raises(UsageError, match="expected axis 0 of x from 2 to 5, got 6"):
        program.run({"x": normal(6, 6)})


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_a_classifier_of_pictures(ct: Any, tmp_path: Path, colours: str) -> None:
    torch.manual_seed(6)
    layers = (torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    net = torch.nn.Sequential(*layers, torch.nn.Softmax(-1)).eval()
    with quiet():
        traced = torch.export.export(net, (torch.rand(1, 3, 8, 8),)).run_decompositions({})
        picture = ct.ImageType(
            name="pic",
            shape=(1, 3, 8, 8),
            scale=1 / 255,
            bias=[-0.4, -0.5, -0.6],
            color_layout=getattr(ct.colorlayout, colours),
        )
        model = ct.convert(
            traced,
            inputs=[picture],
            classifier_config=ct.ClassifierConfig(["cat", "dog", "eel", "fox", "gnu"]),
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
        )
        model.save(str(tmp_path / "net.mlpackage"))
    program = load_program(tmp_path / "net.mlpackage")
    pixels = rng.integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    answer = program.run({"pic": pixels})
    seen = torch.from_numpy(pixels if colours == "RGB" else pixels[:, ::-1].copy()).float()
    with torch.no_grad():
        wanted = net(seen / 255 - torch.tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1))[0].numpy()
    label = next(s.name for s in program.outputs if s.dtype == "str")
    odds = next(s.name for s in program.outputs if s.dtype != "str")
    np.testing.assert_allclose(answer[odds], wanted, atol=1e-5)
    assert str(answer[label]) == ["cat", "dog", "eel", "fox", "gnu"][int(wanted.argmax())]
    with pytest.raises(UsageError, match="expected pic of uint8, got float32"):
        program.run({"pic": pixels.astype(np.float32)})


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
