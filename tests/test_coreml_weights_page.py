"""The committed table of smaller weights says what its JSON says, and its gates say what they stand for."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = json.loads((ROOT / "benchmarks" / "coreml_weights.json").read_text())


def test_page_follows_from_the_json() -> None:
    path = ROOT / "benchmarks" / "coreml_weights_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert path.with_name("coreml_weights.md").read_text() == module.page(TABLE)


def test_a_failed_gate_is_a_significant_loss_and_the_other_way_round() -> None:
    for forms in TABLE.values():
        for figures in forms.values():
            drop = 100 * (figures["float_correct"] - figures["correct"]) / figures["n"]
            assert figures["ok"] == (not (figures["p_value"] < 0.05 and drop > 1))


def test_fewer_bits_are_never_larger() -> None:
    for name, forms in TABLE.items():
        assert forms["int4"]["bytes"] <= forms["int8"]["bytes"] < forms["fp16"]["bytes"], name
