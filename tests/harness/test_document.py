import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourfold.calibration.ranges import DataSource, Ranges
from fourfold.errors import UsageError
from fourfold.export.artifact import Refusal, Step
from fourfold.export.parity import Parity
from fourfold.harness.document import decode, encode, from_json, to_json
from fourfold.harness.result import SCHEMA, Interval, Report
from fourfold.models.spec import Preprocess, TensorSpec

floats = st.floats(allow_nan=False)
counts = st.integers(-(2**70), 2**70)
shapes = st.lists(st.one_of(st.integers(0, 9), st.text(max_size=4)), max_size=4).map(tuple)
parities = st.builds(
    Parity, st.text(), st.text(), st.text(), counts, floats, floats, floats, st.text(), st.booleans()
)
steps = st.builds(
    Step,
    st.text(),
    st.text(),
    changed=counts,
    nodes=st.none() | counts,
    seconds=floats,
    refusals=st.lists(st.builds(Refusal, st.text(), st.text()), max_size=2).map(tuple),
    parity=st.lists(parities, max_size=2).map(tuple),
)
sources = st.builds(
    DataSource,
    st.text(),
    st.sampled_from(["real", "synthetic"]),
    counts,
    st.text(),
    seed=st.none() | counts,
)
pictures = st.builds(
    Preprocess,
    size=st.tuples(counts, counts),
    mean=st.lists(floats, max_size=3).map(tuple),
    std=st.lists(floats, max_size=3).map(tuple),
    mode=st.sampled_from(["L", "RGB"]),
)
values = st.one_of(steps, parities, sources, pictures, st.builds(TensorSpec, st.text(), shapes))


@given(values)
def test_every_value_comes_back_from_json(value):
    text = json.dumps(encode(value), allow_nan=False)
    assert decode(type(value), json.loads(text), "value") == value


def test_ranges_with_tuples_in_a_mapping_come_back():
    ranges = Ranges({"x": (-1.5, math.inf)}, DataSource("d", "real", 1, "00"), "minmax")
    assert decode(Ranges, json.loads(json.dumps(encode(ranges))), "r") == ranges


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_whole_report_comes_back_and_gives_the_same_text(report, precision):
    whole = report(precision=precision, warnings=("Random weights.",))
    text = to_json(whole)
    back = from_json(text)
    assert back == whole
    assert to_json(back) == text


def test_keys_keep_the_order_of_the_fields(report):
    keys = list(json.loads(to_json(report())))
    assert keys[:4] == ["model", "device", "device_title", "runtime"]
    assert keys[-1] == "schema"


def test_nan_comes_back_and_the_text_is_strict_json(report):
    odd = replace(report().accuracy, sqnr_db=math.nan, interval=Interval(math.inf, -math.inf, 0.0))
    text = to_json(report(accuracy=odd))
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    back = from_json(text).accuracy
    assert back is not None
    assert math.isnan(back.sqnr_db)
    assert (back.interval.value, back.interval.low) == (math.inf, -math.inf)


def test_numpy_numbers_are_written_as_numbers(report):
    odd = replace(
        report().accuracy, correct=np.int64(7), agreement=np.float32(0.5), sqnr_db=np.float32("inf")
    )
    back = from_json(to_json(report(accuracy=odd))).accuracy
    assert back is not None
    assert (back.correct, back.agreement, back.sqnr_db) == (7, 0.5, math.inf)


def test_a_value_that_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="ndarray"):
        encode(np.zeros(2))


def edited(report: Report, **changes):
    return json.dumps(json.loads(to_json(report)) | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": SCHEMA + 1}, "newer fourfold; update"),
        ({"schema": None}, "schema number"),
        ({"colour": "red"}, r"only the keys of Report at report.json, got \['colour'\]"),
        ({"model": 3}, r"expected str at report.json.model, got 3"),
        ({"latency": []}, r"an object at report.json.latency"),
        ({"inputs": [{"name": "x", "shape": [1.5]}]}, r"int or str at report.json.inputs\[0\].shape\[0\]"),
        ({"sizes": {"model.onnx": True}}, r"expected int at report.json.sizes.model.onnx, got True"),
        ({"calibration": {"kind": "real"}}, "count, description, sha256 of DataSource"),
        (
            {"calibration": {"kind": "x", "description": "", "count": 1, "sha256": ""}},
            "'real' or 'synthetic'",
        ),
        (
            {"executed": [{"provider": "", "precision": "", "nodes": 1, "share": 10**400}]},
            "expected float at",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(report, changes, message):
    with pytest.raises(UsageError, match=message):
        from_json(edited(report(), **changes))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_what_is_no_document_is_refused(text):
    with pytest.raises(UsageError, match=r"report\.json"):
        from_json(text)


def test_a_missing_key_without_a_default_is_refused(report):
    data = json.loads(to_json(report()))
    del data["precision"]
    with pytest.raises(UsageError, match="the keys precision of Report"):
        from_json(json.dumps(data))
