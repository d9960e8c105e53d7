"""The committed page of the benchmark says what its committed JSON says."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_follows_from_the_json() -> None:
    results = json.loads((BENCHMARKS / "routes.json").read_text())
    written = load(BENCHMARKS / "routes_page.py").page(results)
    assert (BENCHMARKS / "routes.md").read_text() == written


def test_our_best_float_route_is_never_slower_than_the_best_of_other_tools() -> None:
    results = json.loads((BENCHMARKS / "routes.json").read_text())
    for model in results["models"]:
        ours = [r for r in model["routes"] if r["ours"] and r["precision"] == "fp32"]
        assert max(r["times_as_fast_as_best_float"]["high"] for r in ours) >= 1, model["model"]
