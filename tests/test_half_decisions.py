"""What float16 does to decisions: the committed page, and how its figures are made."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from fourfold.export.artifact import Exported, Golden
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

Benchmark = Callable[[str], ModuleType]
FOLDER = Path(__file__).parents[1] / "benchmarks"
NET = """<ir_version: 10, opset_import: ["": 20]> net (float[batch, 6, 8] x) => (float[batch, 6, 4] y) {
  a = MatMul(x, v)  r = Relu(a)  s = MatMul(r, w)  best, chosen = TopK(s, two)
  u = Unsqueeze(chosen, last)  e = Equal(u, numbers)  c = Cast<to = 1>(e)
  g = ReduceSum<keepdims = 0>(c, pairs)  t = MatMul(r, w)  y = Mul(t, g) }"""


@pytest.fixture
def measure(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return benchmark("half_decisions")


def network(alike: float) -> Exported:
    """Each token takes two of four, of which the second and the third are apart by a share ``alike``."""
    random, proto = np.random.default_rng(2), parser.parse_model(NET)
    w = np.abs(random.standard_normal((8, 1))) * np.array([3.0, 2.0 * (1 - alike), 2.0, 1.0])
    arrays = {
        "v": random.standard_normal((8, 8)).astype(np.float32),
        "w": w.astype(np.float32),
        "two": np.array([2]),
        "last": np.array([-1]),
        "pairs": np.array([-2]),
        "numbers": np.arange(4),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    feed = {"x": random.standard_normal((2, 6, 8)).astype(np.float32)}
    specs = (TensorSpec("x", ("batch", 6, 8)),), (TensorSpec("y", ("batch", 6, 4)),)
    exported = Exported("net", model, *specs, Golden(feed, {}))
    return replace(exported, golden=Golden(feed, evaluate(model)(feed)))


def test_the_page_follows_from_the_json(measure: ModuleType) -> None:
    table = json.loads((FOLDER / "half_decisions.json").read_text())
    assert (FOLDER / "half_decisions.md").read_text() == measure.page(table)


def test_clear_decisions_do_not_flip(measure: ModuleType) -> None:
    rows = list(measure.measured(network(0.3), 3))
    assert [row["flips"] for row in rows] == [0] * 5
    assert {row["decisions"] for row in rows} == {18}
    assert rows[0]["halved"] == 0
    assert rows[1]["halved"] > rows[2]["halved"] > rows[4]["halved"] > 0
    assert rows[1]["weights"] == 1.0
    assert all(row["worst_db"] > 50 for row in rows)


def test_scores_that_float16_cannot_tell_apart_flip_until_they_are_kept(measure: ModuleType) -> None:
    rows = {row["form"]: row["flips"] for row in measure.measured(network(1e-5), 3)}
    assert rows["float16 throughout"] > 0
    assert rows["scores and sums and all before 1 of them in float32"] == 0
