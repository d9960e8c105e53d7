from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourfold.calibration.collect import collect
from fourfold.calibration.placement import watched
from fourfold.calibration.samples import synthetic_samples
from fourfold.calibration.scheme import QuantScheme
from fourfold.errors import BuildError, UsageError
from fourfold.export.artifact import Exported
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

from .conftest import network, normal, samples_of


def test_ranges_are_those_of_the_activations(convnet: Exported, tmp_path: Path):
    samples = samples_of(convnet, tmp_path)
    ranges = collect(convnet, samples, QuantScheme(batch=7), evaluate=evaluate)
    x = np.concatenate([b["x"] for b in samples.batches(5)])
    y = evaluate(convnet.model)({"x": x})["y"]
    assert ranges.values["x"] == (x.min(), x.max())
    assert ranges.values["y"] == pytest.approx((y.min(), y.max()), rel=1e-5)
    assert ranges.values["ar"][0] == 0.0
    assert ranges.source == samples.source
    assert ranges.observer == "minmax"


def test_the_graph_is_not_changed(convnet: Exported, tmp_path: Path):
    before = [o.name for o in convnet.model.graph.outputs]
    collect(convnet, samples_of(convnet, tmp_path), QuantScheme(), evaluate=evaluate)
    assert [o.name for o in convnet.model.graph.outputs] == before


def test_only_what_fits_the_budget_is_alive_at_once(convnet: Exported, tmp_path: Path):
    samples = samples_of(convnet, tmp_path)
    largest: list[int] = []

    def counting(model):
        run = evaluate(model)

        def counted(feed):
            answer = run(feed)
            largest.append(sum(a.nbytes for a in answer.values()))
            return answer

        return counted

    whole = collect(convnet, samples, QuantScheme(batch=8), evaluate=evaluate)
    one = sum(a.nbytes for a in _all(convnet, samples).values())
    some = collect(convnet, samples, QuantScheme(batch=8), evaluate=counting, budget=3 * one)
    assert max(largest) <= 3 * one
    largest.clear()
    few = collect(convnet, samples, QuantScheme(batch=8), evaluate=counting, budget=one // 2)
    assert max(largest[1:]) <= one // 2
    for name, values in whole.values.items():
        assert values == pytest.approx(some.values[name], rel=1e-5, abs=1e-6)
        assert values == pytest.approx(few.values[name], rel=1e-5, abs=1e-6)


def _all(exported: Exported, samples) -> dict[str, np.ndarray]:
    from fourfold.calibration.collect import _watching

    names = watched(exported.model)
    return dict(evaluate(_watching(exported.model, names))(next(samples.batches(1))))


def test_progress_counts_samples(convnet: Exported, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    collect(
        convnet,
        samples_of(convnet, tmp_path, count=10),
        QuantScheme(batch=4),
        evaluate=evaluate,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_named_activations_only(convnet: Exported, tmp_path: Path):
    ranges = collect(
        convnet, samples_of(convnet, tmp_path), QuantScheme(), tensors=("x", "dr"), evaluate=evaluate
    )
    assert set(ranges.values) == {"x", "dr"}


def test_a_graph_of_fixed_batch_gets_full_batches(tmp_path: Path):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[4,6] x) => (float[4,3] y) { y = MatMul (x, w) }
    """
    fixed = network(text, {"w": normal(0, 6, 3)}, (TensorSpec("x", (4, 6)),))
    samples = samples_of(fixed, tmp_path, count=10)
    ranges = collect(fixed, samples, QuantScheme(batch=16), evaluate=evaluate)
    x = np.concatenate([b["x"] for b in samples.batches(10)])
    assert ranges.values["x"] == (x.min(), x.max())


def test_infinities_stay_visible_and_nan_is_an_error(tmp_path: Path):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[batch,6] x) => (float[batch,3] y) { r = OP (x) l = Log (r) y = MatMul (l, w) }
    """
    text = text.replace(
        "{ l = Log (r) y = MatMul (l, w) r = Relu (x) }", "{ r = OP (x) l = Log (r) y = MatMul (l, w) }"
    )
    weights = {"w": np.abs(normal(0, 6, 3))}
    specs = (TensorSpec("x", ("batch", 6)),)
    infinite = network(text.replace("OP", "Relu"), weights, specs)
    samples = samples_of(infinite, tmp_path)
    assert collect(infinite, samples, QuantScheme(), evaluate=evaluate).values["l"][0] == -np.inf
    nan = network(text.replace("OP", "Identity"), weights, specs)
    with pytest.raises(BuildError, match="NaN"):
        collect(nan, samples, QuantScheme(), evaluate=evaluate)


def test_too_few_samples_and_unknown_observers_are_refused(convnet: Exported):
    with pytest.raises(UsageError, match="at least 8 samples to calibrate, got 3"):
        collect(convnet, synthetic_samples(convnet.inputs, count=3, seed=0), QuantScheme(), evaluate=evaluate)
    scheme = replace(QuantScheme(), observer="minmx")
    with pytest.raises(UsageError, match="minmax"):
        collect(convnet, synthetic_samples(convnet.inputs, count=9, seed=0), scheme, evaluate=evaluate)
