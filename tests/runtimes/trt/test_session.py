"""The session on a GPU that is played (see conftest.py)."""

import hashlib
import json
import re
import threading
from typing import Any

import numpy as np
import pytest

from fourfold.errors import RunError, UnavailableError, UsageError
from fourfold.runtimes.device import Device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.trt import cuda, engine
from fourfold.runtimes.trt.facts import beside, write_facts


def test_answers_are_those_of_the_graph_at_every_batch(bench: Any) -> None:
    with bench.open() as session:
        for batch in (1, 8, 3, 1):
            feed = bench.feed(batch, seed=batch)
            found = session.run(feed)
            for name, expected in evaluate(bench.exported.model)(feed).items():
                np.testing.assert_array_equal(found[name], expected)
                assert found[name].dtype == expected.dtype


def test_answers_stay_when_the_next_inference_runs(bench: Any) -> None:
    with bench.open() as session:
        first = session.run(bench.feed(4, seed=1))
        kept = {name: array.copy() for name, array in first.items()}
        session.run(bench.feed(4, seed=2))
        for name in kept:
            np.testing.assert_array_equal(first[name], kept[name])


def test_inputs_of_strided_memory_are_sent_right(bench: Any) -> None:
    feed = bench.feed(4)
    with bench.open() as session:
        expected = session.run(feed)["y"]
        found = session.run(feed | {"x": np.asfortranarray(feed["x"])})["y"]
    np.testing.assert_array_equal(found, expected)


def test_memory_is_reused_and_grows_only(bench: Any) -> None:
    with bench.open() as session:
        session.run(bench.feed(8))
        before = set(bench.gpu.device)
        for batch in (1, 8, 3):
            session.run(bench.feed(batch))
        assert set(bench.gpu.device) == before
        assert len(bench.gpu.host) == len(bench.gpu.device) == 5


def test_kernels_for_a_new_shape_are_made_at_once(bench: Any) -> None:
    with bench.open():
        assert bench.engine.config.dynamic_shapes_kernel_specialization_strategy == "EAGER"


def test_classic_tensorrt_has_no_such_choice(bench: Any) -> None:
    with bench.with_facts(module="tensorrt").open() as session:
        session.run(bench.feed(1))
        assert bench.engine.config is None


def test_the_time_on_the_gpu_is_that_between_the_events(bench: Any) -> None:
    with bench.open() as session:
        with pytest.raises(UsageError, match="call run first"):
            session.device_ms()
        session.run(bench.feed(2))
        assert session.device_ms() == pytest.approx(1.5)


def test_everything_is_freed_at_the_end_and_on_errors(bench: Any) -> None:
    with bench.open() as session:
        session.run(bench.feed(2))
        assert bench.held() == (5, 5, 3, 1)
    assert bench.held() == (0, 0, 0, 0)
    with pytest.raises(UsageError, match="got a closed one"):
        session.run(bench.feed(2))
    with pytest.raises(UsageError, match="got a closed one"):
        session.executed()
    with pytest.raises(UsageError, match="got a closed one"):
        session.device_ms()


def test_a_session_may_be_used_and_closed_in_another_thread(bench: Any) -> None:
    session, answers = bench.open(), []
    bench.gpu.current = False  # as in a thread that never saw the context

    def use() -> None:
        with session:
            answers.append(session.run(bench.feed(2)))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert answers[0]["y"].shape == (2, 4)
    assert bench.held() == (0, 0, 0, 0)


@pytest.mark.parametrize("batch", [9, 100])
def test_a_batch_that_was_not_built_for_is_refused(bench: Any, batch: int) -> None:
    with bench.open() as session, pytest.raises(UsageError, match=rf"a batch of 1 to 8.* got {batch}; set"):
        session.run(bench.feed(batch))


def test_a_missing_input_is_refused(bench: Any) -> None:
    feed = bench.feed(2)
    del feed["i"]
    with bench.open() as session, pytest.raises(UsageError, match="expected the input 'i'"):
        session.run(feed)


def test_what_ran_comes_from_the_engine(bench: Any) -> None:
    kinds = [("gemm", "Int8"), ("kgen", "Float"), ("memset", "Float"), ("gemm", "Half")]
    layers = [{"Name": k, "LayerType": k, "Inputs": [{"Name": "a", "Datatype": t}]} for k, t in kinds]
    bench.engine.layers = json.dumps({"Layers": layers})
    with bench.open() as session:
        with pytest.raises(UsageError, match="call run first"):
            session.executed()
        session.run(bench.feed(2))
        found = session.executed()
    assert {entry.precision: entry.nodes for entry in found} == {"int8": 1, "fp32": 1, "fp16": 1}
    assert {entry.provider for entry in found} == {"TensorRT-RTX on Played GPU"}


def test_layers_that_cannot_be_read_are_refused(bench: Any) -> None:
    bench.engine.layers = "[]"
    with bench.open() as session:
        session.run(bench.feed(2))
        with pytest.raises(RunError, match=r"list the layers of model\.engine, got: no list of layers"):
            session.executed()


def test_an_engine_that_does_not_load_says_what_was_logged(bench: Any) -> None:
    bench.said = "the engine plan file is not compatible with this version"
    with pytest.raises(RunError, match=r"open model\.engine, got: .*does not load: .*not compatible.*again"):
        bench.open(loads=False)


def test_no_memory_for_the_context_is_refused(bench: Any) -> None:
    bench.engine.context = None
    with pytest.raises(RunError, match="no memory for its activations; compile it again"):
        bench.open()


def test_no_memory_for_an_input_is_refused(bench: Any) -> None:
    with bench.open() as session:
        bench.gpu.fails["cuMemAlloc_v2"] = 2
        with pytest.raises(RunError, match="got: cuMemAlloc_v2: out of memory; verify the bundle"):
            session.run(bench.feed(2))


def test_a_gpu_that_fails_is_left_without_a_second_error(bench: Any) -> None:
    with bench.open() as session:
        session.run(bench.feed(2))
        bench.gpu.fails["cuStreamSynchronize"] = 700
        with pytest.raises(RunError, match="cuStreamSynchronize: an illegal memory access"):
            session.run(bench.feed(2))
        bench.gpu.fails["cuMemFree_v2"] = 700
    bench.gpu.device.clear()
    bench.gpu.host.clear()


def test_a_refused_inference_is_named(bench: Any) -> None:
    bench.engine.context.accepts = False
    with bench.open() as session, pytest.raises(RunError, match="got: a refusal of the inference"):
        session.run(bench.feed(2))
    bench.gpu.queue.clear()


def test_shapes_that_depend_on_data_are_refused(bench: Any) -> None:
    bench.engine.context.lacking = ["y"]
    with bench.open() as session, pytest.raises(RunError, match="shapes that depend on y"):
        session.run(bench.feed(2))


def test_a_context_that_cannot_be_made_leaves_nothing(bench: Any) -> None:
    bench.gpu.fails["cuStreamCreate"] = 2
    with pytest.raises(RunError, match="cuStreamCreate: out of memory"):
        bench.open()


def test_the_runtime_opens_what_it_wrote(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(bench.compiled.read_bytes()).hexdigest()
    write_facts(bench.with_facts(sha256=digest).facts, beside(bench.compiled))
    monkeypatch.setattr(engine, "import_module", lambda name: bench.trt())
    device = Device("d", "D", "trt", "any", unit="GPU", compute="SM89", batches=(1, 2, 8))
    assert get_runtime("trt").cannot_run(device) is None
    with get_runtime("trt").open(bench.compiled, device) as session:
        assert session.run(bench.feed(3))["y"].shape == (3, 4)


@pytest.mark.parametrize(
    ("compute", "count", "fails", "reason"),
    [
        ((8, 6), 1, {}, r"no GPU of SM89 is here \(found: Played GPU \(SM86\)\)"),
        ((8, 9), 0, {}, r"no GPU of SM89 is here \(found: none\)"),
        ((8, 9), 1, {"cuInit": 2}, r"the NVIDIA driver finds no GPU here \(cuInit: out of memory\)"),
    ],
)
def test_another_gpu_or_none_is_a_reason(
    bench: Any, compute: tuple[int, int], count: int, fails: dict[str, int], reason: str
) -> None:
    bench.gpu.compute, bench.gpu.count, bench.gpu.fails = compute, count, fails
    found = cuda.find_gpu("SM89")
    assert isinstance(found, str)
    assert re.search(reason, found)


def test_no_driver_is_a_reason(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise OSError

    monkeypatch.setattr(cuda, "driver", absent)
    device = Device("d", "D", "trt", "any", unit="GPU", compute="SM89")
    assert "no NVIDIA driver" in (get_runtime("trt").cannot_run(device) or "")
    write_facts(bench.facts, beside(bench.compiled))
    with pytest.raises(RunError, match=r"that model\.json does not describe; compile it again"):
        get_runtime("trt").open(bench.compiled, device)
    digest = hashlib.sha256(bench.compiled.read_bytes()).hexdigest()
    write_facts(bench.with_facts(sha256=digest).facts, beside(bench.compiled))
    with pytest.raises(UnavailableError, match="d: no NVIDIA driver is installed here"):
        get_runtime("trt").open(bench.compiled, device)
