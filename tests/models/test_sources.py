"""What a user may mean by MODEL, and what is said when nothing is meant."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fourfold.models.timm_models as timm_models
from fourfold.errors import BuildError, UnavailableError, UsageError
from fourfold.models.fusible import Fusible
from fourfold.models.registry import get_spec
from fourfold.models.sources import OnnxFile, resolve
from fourfold.models.spec import ModelSpec, Preprocess, TensorSpec
from fourfold.models.weights import build_model

GREY = Preprocess(mean=(0.5,), std=(0.5,))

THEIRS = """
import importlib
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), importlib.import_module("their_parts_{0}").last())

def number():
    return 3

def fails():
    raise ValueError("bad size\\nsecond line")

def leaves():
    raise SystemExit(2)

net = nn.ReLU()
value = 5

class Zoo:
    make = staticmethod(make)
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Put a user's module into the working folder and return its name, fresh for every test."""
    number = abs(hash(request.node.nodeid))
    name = f"theirs_{number}"
    (tmp_path / f"{name}.py").write_text(THEIRS.format(number))
    (tmp_path / f"their_parts_{number}.py").write_text("from torch import nn\nlast = nn.Flatten\n")
    monkeypatch.chdir(tmp_path)
    return name


def spec_of(model: str, **options: object) -> ModelSpec:
    spec = resolve(model, **options)
    assert isinstance(spec, ModelSpec)
    return spec


def test_zoo_name() -> None:
    found = spec_of("smt_nano")
    assert found == replace(get_spec("smt_nano"), build=found.build)


def test_zoo_name_with_another_size() -> None:
    spec = spec_of("smt_t", input_shape=(3, 64, 96))
    assert spec.inputs == (TensorSpec("image", ("batch", 3, 64, 96)),)
    assert spec.preprocess is not None
    assert spec.preprocess.size == (64, 96)


@pytest.mark.parametrize("shape", [(1, 224, 224), (224, 224), (3, 224)])
def test_zoo_name_with_other_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="keep the channels"):
        resolve("smt_t", input_shape=shape)


@pytest.mark.parametrize("name", ["smt_nan", "smt-t", "net.pt", ""])
def test_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected a known model"):
        resolve(name)


@pytest.mark.parametrize("shape", [(), (3, 0, 4), (-1,)])
def test_impossible_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="positive sizes"):
        resolve("smt_t", input_shape=shape)


def test_preprocess_of_the_user_comes_first() -> None:
    assert spec_of("smt_nano", preprocess=GREY).preprocess == GREY


@pytest.mark.parametrize(("attribute", "name"), [("make", "make"), ("Zoo.make", "Zoo.make")])
def test_factory_in_the_working_folder(theirs: str, attribute: str, name: str) -> None:
    spec = spec_of(f"{theirs}:{attribute}", input_shape=[3, 8, 8], preprocess=GREY)
    assert spec.name == name
    assert spec.inputs == (TensorSpec("input", ("batch", 3, 8, 8)),)
    assert spec.preprocess == GREY
    path = list(sys.path)
    assert build_model(spec)(torch.zeros(2, 3, 8, 8)).shape == (2, 144)
    assert sys.path == path


def test_factory_of_an_installed_package() -> None:
    assert isinstance(build_model(spec_of("torch.nn:Identity", input_shape=(4,))), nn.Identity)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("no_such_module_here:make", "expected a module 'no_such_module_here'"),
        ("no_such.module:make", r"expected a module 'no_such\.module'"),
        ("{}:mak", "expected a function 'mak' .* got NoneType"),
        ("{}:Zoo.none", "expected a function"),
        ("{}:value", "got int"),
    ],
)
def test_factory_that_is_not_there_is_refused(theirs: str, model: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        resolve(model.format(theirs), input_shape=(3, 8, 8))


def test_factory_without_shape_is_refused(theirs: str) -> None:
    with pytest.raises(UsageError, match="expected the input shape"):
        resolve(f"{theirs}:make")


@pytest.mark.parametrize(
    ("attribute", "why"),
    [
        ("number", r"to return a torch\.nn\.Module, got int"),
        ("fails", "got ValueError: bad size; mend"),
        ("leaves", "got SystemExit: 2"),
        ("net", "got a network"),
    ],
)
def test_factory_that_makes_no_network_is_refused(theirs: str, attribute: str, why: str) -> None:
    spec = spec_of(f"{theirs}:{attribute}", input_shape=(3, 8, 8))
    with pytest.raises(BuildError, match=why):
        build_model(spec)


@pytest.mark.parametrize(
    ("code", "why"),
    [("1 / 0", "ZeroDivision"), ("import no_such_part", "no_such_part"), ("raise SystemExit", "SystemExit")],
)
def test_module_that_fails_while_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, why: str
) -> None:
    name = f"broken_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError, match=rf"importing {name} to succeed, got .*{why}"):
        resolve(f"{name}:make", input_shape=(3, 8, 8))


def test_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "my net (2).ONNX"
    path.write_bytes(b"")
    assert resolve(str(path), preprocess=GREY) == OnnxFile("my-net-2", path, GREY)


def test_absent_onnx_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    for path in (tmp_path / "none.onnx", folder):
        with pytest.raises(UsageError, match="expected an ONNX file"):
            resolve(str(path))


def test_onnx_file_with_a_shape_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    found = resolve(str(path), input_shape=[3, 8, 8])
    assert found == OnnxFile("net", path, input_shape=(3, 8, 8))


@pytest.fixture
def with_timm() -> None:
    try:
        timm_models.timm_spec("resnet18", None)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("with_timm")
def test_timm_network_and_its_deploy_form() -> None:
    torch.set_num_threads(1)
    spec = spec_of("timm/mobileone_s0")
    assert spec.name == "timm-mobileone_s0"
    assert spec.inputs == (TensorSpec("image", ("batch", 3, 224, 224)),)
    assert spec.preprocess is not None
    assert spec.preprocess.size == (224, 224)
    model = build_model(spec)
    randomise_norms(model)
    assert isinstance(model, Fusible)
    folded = model.fused()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32))
    with torch.no_grad():
        expected, actual = model(x), folded(x)
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, folded)]
    assert counts[1] < counts[0] / 2


def randomise_norms(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)


@pytest.mark.usefixtures("with_timm")
def test_timm_network_of_another_size() -> None:
    spec = spec_of("timm/vit_tiny_patch16_224", input_shape=(3, 64, 96))
    assert spec.preprocess is not None
    assert spec.preprocess.size == (64, 96)
    with torch.no_grad():
        assert build_model(spec)(torch.zeros(1, 3, 64, 96)).shape == (1, 1000)


@pytest.mark.usefixtures("with_timm")
@pytest.mark.parametrize("shape", [(3, 64), (1, 64, 64)])
def test_timm_shape_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"like \(3, 224, 224\) for timm/resnet18"):
        resolve("timm/resnet18", input_shape=shape)


@pytest.mark.usefixtures("with_timm")
def test_timm_network_that_cannot_be_built_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, **options: object) -> nn.Module:
        raise AssertionError(f"{name} takes no {options}")

    monkeypatch.setattr(timm_models._timm(), "create_model", fails)
    with pytest.raises(BuildError, match="expected timm to build resnet18, got AssertionError"):
        build_model(spec_of("timm/resnet18"))


@pytest.mark.usefixtures("with_timm")
def test_unknown_timm_name_suggests_near_ones() -> None:
    with pytest.raises(UsageError, match=r"expected a known timm model.*mobileone_s0"):
        resolve("timm/mobilone_s0")


def test_timm_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(name=name)

    timm_models._timm.cache_clear()
    monkeypatch.setattr(timm_models, "import_module", absent)
    try:
        with pytest.raises(UnavailableError, match=r"pip install 'fourfold\[timm\]'"):
            resolve("timm/resnet18")
    finally:
        timm_models._timm.cache_clear()
