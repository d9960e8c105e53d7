"""The committed pages about Core ML say what their committed JSON says."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
FLOORS_DB = {"fp32": 60.0, "fp16": 40.0}


def load(name: str) -> ModuleType:
    path = BENCHMARKS / f"{name}_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> dict[str, Any]:
    return json.loads((BENCHMARKS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["coreml_int8", "coreml_photos"])
def test_page_follows_from_the_json(name: str) -> None:
    assert (BENCHMARKS / f"{name}.md").read_text() == load(name).page(read(name))


def test_networks_follow_from_the_json() -> None:
    written = load("coreml_zoo").page(read("coreml_zoo"), FLOORS_DB)
    assert (ROOT / "docs" / "coreml.md").read_text() == written


def test_int8_packages_answer_like_onnx_runtime_on_the_same_graph() -> None:
    for name, row in read("coreml_int8").items():
        assert row["same_graph"]["agreement"] >= 0.99, name
        assert row["as_written"]["agreement"] >= 0.99, name
