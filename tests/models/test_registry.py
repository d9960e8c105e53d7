"""Look-up by name: lazily, once, with near matches; other packages join by entry point."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import fourfold.models.registry as registry
from fourfold.errors import BuildError, UsageError
from fourfold.models.registry import get_spec, model_names, register
from fourfold.models.spec import ModelSpec


@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Builder]:
    model_names()
    copy = dict(registry._builders)
    monkeypatch.setattr(registry, "_builders", copy)
    return copy


def describe(name: str) -> ModelSpec:
    return ModelSpec(name=name, build=lambda: pytest.fail("not built"), inputs=())


def test_every_name_leads_to_the_spec_of_that_name() -> None:
    assert {"smt_t", "smt_s", "smt_b", "smt_l", "smt_nano"} <= set(model_names())
    assert model_names() == tuple(sorted(model_names()))
    for name in model_names():
        spec = get_spec(name)
        assert spec.name == name
        assert spec.paper
        assert spec.checked
        assert all(s.shape[0] == "batch" for s in spec.inputs)
        assert spec.answer in ("", *spec.outputs)


def test_every_model_belongs_to_the_file_that_registers_it() -> None:
    assert registry.family_of("smt_t") == "smt"
    assert {registry.family_of(name) for name in model_names()} == set(registry.FAMILIES)


def test_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UsageError, match=r"smt_nan0.*did you mean smt_nano"):
        get_spec("smt_nan0")


def test_registered_function_is_found_by_its_name(builders: dict[str, registry.Builder]) -> None:
    @register
    def tiny() -> ModelSpec:
        return describe("tiny")

    assert "tiny" in model_names()
    assert get_spec("tiny") is not tiny
    assert get_spec("tiny").name == "tiny"


def test_second_registration_names_both_modules(builders: dict[str, registry.Builder]) -> None:
    def smt_t() -> ModelSpec:
        return describe("smt_t")

    first = builders["smt_t"]
    with pytest.raises(BuildError, match=rf"'smt_t'.*fourfold\.models\.smt and {__name__}"):
        register(smt_t)
    assert builders["smt_t"] is first


def test_importing_the_registry_does_not_import_torch() -> None:
    code = "import fourfold.models.registry, fourfold.models.sources, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def outside(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    point = EntryPoint("theirs", module, registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    registry._import_families.cache_clear()


@pytest.fixture
def fresh_look_up(builders: dict[str, registry.Builder]) -> object:
    yield
    registry._import_families.cache_clear()


@pytest.mark.usefixtures("fresh_look_up")
def test_models_of_other_packages_join(tmp_path, monkeypatch) -> None:
    (tmp_path / "their_models.py").write_text(
        "from fourfold.models.registry import register\n"
        "from fourfold.models.spec import ModelSpec\n"
        "@register\n"
        "def theirs_s():\n"
        "    return ModelSpec(name='theirs_s', build=lambda: None, inputs=())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    outside(monkeypatch, "their_models")
    assert get_spec("theirs_s").name == "theirs_s"
    assert "smt_t" in model_names()


@pytest.mark.usefixtures("fresh_look_up")
def test_broken_models_of_another_package_are_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_models.py").write_text("raise OSError('no disk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    outside(monkeypatch, "broken_models")
    with pytest.raises(BuildError, match=r"'theirs'.*OSError: no disk.*broken_models"):
        model_names()
