"""The committed page of the benchmark says what its committed JSON says."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


def test_page_follows_from_the_json(benchmark: Callable[[str], ModuleType]) -> None:
    results = json.loads((BENCHMARKS / "routes.json").read_text())
    written = benchmark("routes_page").page(results)
    assert (BENCHMARKS / "routes.md").read_text() == written


def test_our_best_float_route_is_never_slower_than_the_best_of_other_tools() -> None:
    results = json.loads((BENCHMARKS / "routes.json").read_text())
    for model in results["models"]:
        ours = [r for r in model["routes"] if r["ours"] and r["precision"] == "fp32"]
        assert max(r["times_as_fast_as_best_float"]["high"] for r in ours) >= 1, model["model"]
