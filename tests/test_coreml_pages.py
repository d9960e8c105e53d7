"""The committed pages about Core ML say what their committed JSON says."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Benchmark = Callable[[str], ModuleType]
ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
FLOORS_DB = {"fp32": 60.0, "fp16": 40.0}


def read(name: str) -> dict[str, Any]:
    return json.loads((BENCHMARKS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["coreml_int8", "coreml_photos", "coreml_lines"])
def test_page_follows_from_the_json(name: str, benchmark: Benchmark) -> None:
    assert (BENCHMARKS / f"{name}.md").read_text() == benchmark(f"{name}_page").page(read(name))


def test_networks_follow_from_the_json(benchmark: Benchmark) -> None:
    written = benchmark("coreml_zoo_page").page(read("coreml_zoo"), FLOORS_DB)
    assert (ROOT / "docs" / "coreml.md").read_text() == written


def test_int8_packages_answer_like_onnx_runtime_on_the_same_graph() -> None:
    for name, row in read("coreml_int8").items():
        assert row["same_graph"]["agreement"] >= 0.99, name
        assert row["as_written"]["agreement"] >= 0.99, name
