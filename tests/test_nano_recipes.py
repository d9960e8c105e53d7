"""The recipes that the benchmarks hold are those that the shipped weights were trained by."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "models" / "trained").glob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_and_recipe_agree(path: Path, benchmark: Callable[[str], ModuleType]) -> None:
    recorded = json.loads(path.read_text())["recipe"]
    recipe = asdict(benchmark("nano_recipe").RECIPES[path.stem])
    assert recipe | recorded == recipe | {"schedule": recorded["schedule"]}
