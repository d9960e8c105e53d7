"""The recipes that the benchmarks hold are those that the shipped weights were trained by."""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "models" / "trained").glob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_and_recipe_agree(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("nano_recipe", ROOT / "benchmarks" / "nano_recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nano_recipe", module)
    spec.loader.exec_module(module)
    recorded = json.loads(path.read_text())["recipe"]
    recipe = asdict(module.RECIPES[path.stem])
    assert recipe | recorded == recipe | {"schedule": recorded["schedule"]}
