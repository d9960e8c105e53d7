"""The committed table of masks and noise says what its JSON says, and in float what the records say."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
TABLE = json.loads((BENCHMARKS / "nano_answers.json").read_text())


def test_page_follows_from_the_json(benchmark: Callable[[str], ModuleType]) -> None:
    assert (BENCHMARKS / "nano_answers.md").read_text() == benchmark("nano_answers").page(TABLE)


def test_every_network_that_names_no_class_is_in_it(benchmark: Callable[[str], ModuleType]) -> None:
    assert set(TABLE) == set(benchmark("train_nano").OTHERS)


@pytest.mark.parametrize("name", TABLE)
def test_float_figures_are_those_of_the_records(name: str) -> None:
    row = TABLE[name]
    record = json.loads((ROOT / "models" / "trained" / f"{name}.json").read_text())
    assert row["float"] == pytest.approx(record[row["figure"]], rel=1e-4)
