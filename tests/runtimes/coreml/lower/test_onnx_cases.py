"""The cases that ONNX ships for its operators: each is answered right, or refused by name."""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from fourfold.errors import FourfoldError
from fourfold.export.artifact import Array, Exported, Feed, Golden
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.coreml.lower.table import OPERATORS
from fourfold.runtimes.device import Device
from fourfold.runtimes.engines import get_runtime

PHONE = Device("phone", "a phone", "coreml", "aarch64", "ios", "ANE", target="iOS17")
KINDS = {"float32", "int64", "int32", "bool"}
"""Types that an app can hand over and take."""
FEWEST = 600
"""Cases that have to be answered: a change that refuses more of them is a loss."""

Case = tuple[str, onnx.ModelProto, list[Array], list[Array], float]


def cases() -> list[Case]:
    """Collect the cases of operators with a lowering: name, network, inputs, answers, relative tolerance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases(None)
    found: list[Case] = []
    for case in collected:
        model = case.model
        if model is None or not {node.op_type for node in model.graph.node} <= OPERATORS.keys():
            continue
        asked, expected = case.data_sets[0]
        arrays = [
            [np.asarray(a) for a in side if isinstance(a, np.ndarray | np.generic)]
            for side in (asked, expected)
        ]
        whole = len(arrays[0]) == len(model.graph.input) and len(arrays[1]) == len(model.graph.output)
        if whole and all(a.dtype.name in KINDS for side in arrays for a in side):
            found.append((case.name, model, *arrays, case.rtol))
    return found


def tensors(side: object) -> list[Array]:
    """Leave out what is no tensor: sequences and optionals, which no app has."""
    assert isinstance(side, list | tuple)
    return [np.asarray(a) for a in side if isinstance(a, np.ndarray | np.generic)]


def exported(name: str, proto: onnx.ModelProto, asked: list[Array], expected: list[Array]) -> Exported:
    """Make a case a network: what it computes with is given, sizes, axes and bounds are constant."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    given: Feed = {}
    first = next((i for i, a in enumerate(asked) if a.dtype.kind == "f" and a.size), 0)
    for index, (value, array) in enumerate(zip(proto.graph.input, asked, strict=True)):
        if index == first or (array.dtype.kind == "f" and array.ndim):
            given[value.name] = array
        elif value.name:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    del model.graph.input[:]
    model.graph.input.extend(v for v in proto.graph.input if v.name in given)
    answers = {v.name: a for v, a in zip(proto.graph.output, expected, strict=True)}
    specs = (
        tuple(TensorSpec(key, array.shape, array.dtype.name) for key, array in side.items())
        for side in (given, answers)
    )
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    return Exported(name, graph, *specs, Golden(given, answers))


def verdict(case: Case, folder: Path) -> str:
    """Say how a case ends: answered, refused, or what is wrong."""
    name, proto, asked, expected, rtol = case
    runtime = get_runtime("coreml")
    made = exported(name, proto, asked, expected)
    try:
        with runtime.open(runtime.compile(made, PHONE, folder), PHONE) as session:
            answers = session.run(made.golden.inputs)
    except FourfoldError:
        return "refused"
    for key, right in made.golden.outputs.items():
        got = answers[key]
        if got.shape != right.shape or not np.allclose(
            got, right, rtol=max(rtol, 1e-4), atol=1e-5, equal_nan=True
        ):
            return f"{name}: {key} is wrong"
    return "answered"


@pytest.mark.slow
def test_cases_are_answered_right_or_refused(tmp_path: Path) -> None:
    if reason := get_runtime("coreml").missing(PHONE):
        pytest.skip(reason)
    ends = Counter[str]()
    for case in cases():
        folder = tmp_path / case[0]
        folder.mkdir()
        ends[verdict(case, folder)] += 1
    print(ends)
    assert set(ends) == {"answered", "refused"}, sorted(set(ends) - {"answered", "refused"})
    assert ends["answered"] >= FEWEST
