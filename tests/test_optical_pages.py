"""The committed pages on the simulated optical processor say what their JSON says."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RUNS = json.loads((BENCHMARKS / "optical_tuning.json").read_text())


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_tuning_follows_from_its_json() -> None:
    assert (BENCHMARKS / "optical_tuning.md").read_text() == loaded("optical_tuning_page").page(RUNS)


def test_recipes_are_chosen_on_what_was_held_out_and_never_on_the_test() -> None:
    page = loaded("optical_tuning_page")
    plain = {"steps": 0, "rate": 0.0, "seed": 0, "held": 0.5, "test": 0.5, "float_test": 0.9}
    one = plain | {"steps": 10, "rate": 1e-3, "held": 0.7, "test": 0.6, "float_test": 0.1}
    other = plain | {"steps": 20, "rate": 1e-3, "held": 0.6, "test": 0.9}
    assert page.chosen([plain, one, other]) == (10, 1e-3)
    assert abs(page.recovered([plain, one, other], (10, 1e-3)) - 0.25) < 1e-9


def test_accuracy_without_optics_is_that_of_the_records() -> None:
    for run in RUNS:
        if run["steps"] == 0:
            record = json.loads(
                (BENCHMARKS.parent / "models" / "trained" / f"{run['model']}.json").read_text()
            )
            assert abs(run["float_test"] - record["accuracy_10000"]) < 0.02


def test_the_page_of_accuracy_follows_from_its_json() -> None:
    results = json.loads((BENCHMARKS / "optical_accuracy.json").read_text())
    assert (BENCHMARKS / "optical_accuracy.md").read_text() == loaded("optical_accuracy_page").page(results)
