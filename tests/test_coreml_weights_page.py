"""The committed table of smaller weights says what its JSON says, and its gates say what they stand for."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TABLE = json.loads((BENCHMARKS / "coreml_weights.json").read_text())


def test_page_follows_from_the_json(benchmark: Callable[[str], ModuleType]) -> None:
    assert (BENCHMARKS / "coreml_weights.md").read_text() == benchmark("coreml_weights_page").page(TABLE)


def test_a_failed_gate_is_a_significant_loss_and_the_other_way_round() -> None:
    for forms in TABLE.values():
        for figures in forms.values():
            drop = 100 * (figures["float_correct"] - figures["correct"]) / figures["n"]
            assert figures["ok"] == (not (figures["p_value"] < 0.05 and drop > 1))


def test_fewer_bits_are_never_larger() -> None:
    for name, forms in TABLE.items():
        assert forms["int4"]["bytes"] <= forms["int8"]["bytes"] < forms["fp16"]["bytes"], name
