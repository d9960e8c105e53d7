"""Records of the sweep: what counts as dynamic, what is kept, what is void."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from fourfold.errors import UsageError
from fourfold.export.artifact import Exported, Golden
from fourfold.export.parity import Parity
from fourfold.harness import zoo as table
from fourfold.harness.swept import EngineFound, Swept, dynamic_parts, keep, record, swept
from fourfold.harness.zoo import NOT_SWEPT, dynamic, exports, giga, rows, zoo

FOUND = Swept(
    parameters=140_545,
    macs=9_002_688,
    opset=20,
    nodes=40,
    batches=(1, 3),
    dynamic={"TopK": 2},
    engines={
        "cpu-ort": EngineFound("onnxruntime 1.0", 3.1e-7),
        "cpu-openvino": EngineFound("openvino 1", 2e-6),
    },
)

GRAPH = ir.from_proto(
    onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]>
    net (float[batch, 8] x) => (float[batch, 2] y) <int64[1] two = {2}, int64[2] fixed = {1, 0}> {
        values, chosen = TopK (x, two)
        looked_up = Gather <axis = 1> (x, fixed)
        taken = GatherElements <axis = 1> (x, chosen)
        y = Add(looked_up, taken)
    }"""
    )
)


def test_a_look_up_by_constants_is_not_dynamic() -> None:
    assert dynamic_parts(GRAPH) == {"GatherElements": 1, "TopK": 1}


def test_a_record_says_what_each_engine_was_off_at_most() -> None:
    found = [
        Parity("fp32", "torch", "cpu-ort", b, 0.1, r, 100.0, "y", True) for b, r in ((1, 1e-7), (3, 4.56e-7))
    ]
    made = record(
        Exported("net", GRAPH, (), (), Golden({}, {})), {"cpu-ort": tuple(found)}, parameters=5, macs=7
    )
    assert made.engines["cpu-ort"].relative == 4.6e-7
    assert made.engines["cpu-ort"].package.startswith("onnxruntime 1.")
    assert (made.opset, made.nodes, made.batches, made.parameters, made.macs) == (20, 4, (1, 3), 5, 7)


def test_records_are_kept_beside_others_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "swept.json"
    keep({"b": FOUND}, path)
    keep({"a": replace(FOUND, macs=1)}, path)
    keep({"b": replace(FOUND, nodes=41)}, path)
    assert swept(path) == {"a": replace(FOUND, macs=1), "b": replace(FOUND, nodes=41)}


@pytest.mark.parametrize("text", ["", "[]", '{"a": {"macs": 1}}', '{"a": 3}'])
def test_damaged_records_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "swept.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"swept\.json"):
        swept(path)


def test_a_record_of_another_network_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "model_names", lambda: ("fatnet_nano", "ggem_b"))
    path = tmp_path / "swept.json"
    keep({"fatnet_nano": FOUND, "ggem_b": FOUND}, path)
    first, second = rows(zoo(path))
    assert first["exports"] == "cpu-ort 3.1e-07, cpu-openvino 2.0e-06 at batch 1 and 3"
    assert first["dynamic parts"] == "2 TopK"
    assert first["parameters"] == "140,545"
    assert first["multiply-adds"] == "0.00900 G"
    assert first["folds"].split(", ")[-1] == "FatNet"
    assert second["exports"] == second["dynamic parts"] == NOT_SWEPT


def test_words_of_the_table() -> None:
    assert exports(None) == dynamic(None) == NOT_SWEPT
    assert dynamic(replace(FOUND, dynamic={})) == "none"
    assert [giga(m) for m in (194_160_000_000, 1_154_648_736, 9_002_688, 768_000, 0)] == [
        "194 G",
        "1.15 G",
        "0.00900 G",
        "0.000768 G",
        "0 G",
    ]


def test_shipped_records_are_of_models_there_are() -> None:
    from fourfold.models.registry import model_names

    known = swept()
    assert set(known) <= set(model_names())
    assert all(set(found.engines) == {"cpu-ort", "cpu-openvino"} for found in known.values())
    assert json.dumps(sorted(known)) == json.dumps(list(known))
