"""The committed page about TensorRT says what its committed JSON says."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from fourfold.models.registry import get_spec, model_names
from fourfold.runtimes.device import get_device

ROOT = Path(__file__).parents[1]
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "trt_support.json").read_text())
PAGE = ROOT / "benchmarks" / "trt_support_page.py"
PRECISIONS = ("fp32", "fp16", "int8")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_follows_from_the_json() -> None:
    written = load(PAGE).page(RESULTS, get_device("rtx-4090"), PRECISIONS)
    assert (ROOT / "docs" / "tensorrt.md").read_text() == written


def test_four_papers_of_five_build() -> None:
    paper = load(PAGE).paper
    networks = RESULTS["networks"].values()
    built = {paper(row) for row in networks if any("bytes" in row.get(p, {}) for p in PRECISIONS)}
    wanted = {paper({"paper": get_spec(name).paper}) for name in model_names()}
    assert built <= wanted
    assert len(built) >= 0.8 * len(wanted)
