"""The committed table of int8 says what its JSON says, and in float what the records of the weights say."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = json.loads((ROOT / "benchmarks" / "nano_int8.json").read_text())


def test_page_follows_from_the_json() -> None:
    path = ROOT / "benchmarks" / "nano_int8_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert path.with_name("nano_int8.md").read_text() == module.page(TABLE)


def test_float_figures_are_those_of_the_records() -> None:
    for name, devices in TABLE.items():
        record = json.loads((ROOT / "models" / "trained" / f"{name}.json").read_text())
        scored = {figures["float_correct"] / figures["n"] for figures in devices.values()}
        assert scored == {record["accuracy_10000"]}, name
