"""The committed page about TensorRT says what its committed JSON says."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fourfold.models.registry import get_spec, model_names
from fourfold.runtimes.device import get_device

Benchmark = Callable[[str], ModuleType]
ROOT = Path(__file__).parents[1]
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "trt_support.json").read_text())
PRECISIONS = ("fp32", "fp16", "int8")


def test_page_follows_from_the_json(benchmark: Benchmark) -> None:
    written = benchmark("trt_support_page").page(RESULTS, get_device("rtx-4090"), PRECISIONS)
    assert (ROOT / "docs" / "tensorrt.md").read_text() == written


def test_four_papers_of_five_build(benchmark: Benchmark) -> None:
    paper = benchmark("trt_support_page").paper
    networks = RESULTS["networks"].values()
    built = {paper(row) for row in networks if any("bytes" in row.get(p, {}) for p in PRECISIONS)}
    wanted = {paper({"paper": get_spec(name).paper}) for name in model_names()}
    assert built <= wanted
    assert len(built) >= 0.8 * len(wanted)
