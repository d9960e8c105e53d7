"""The committed table of int8 says what its JSON says, and in float what the records of the weights say."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fourfold.models.registry import get_spec

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
TABLE = json.loads((BENCHMARKS / "nano_int8.json").read_text())


def test_page_follows_from_the_json(benchmark: Callable[[str], ModuleType]) -> None:
    assert (BENCHMARKS / "nano_int8.md").read_text() == benchmark("nano_int8_page").page(TABLE)


def test_float_figures_are_those_of_the_records() -> None:
    for name, devices in TABLE.items():
        weights = get_spec(name).weights
        assert weights is not None
        record = json.loads((ROOT / "models" / "trained" / weights).with_suffix(".json").read_text())
        scored = {figures["float_correct"] / figures["n"] for figures in devices.values()}
        assert scored == {record["accuracy_10000"]}, name
