"""One contract, every engine."""

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import BuildError, RunError, UsageError
from fourfold.export.artifact import Exported
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.engines import BUILT, get_runtime, library_version
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.runtime import Runtime, Session

DEVICES = {
    "ort": "cpu-ort",
    "ov": "cpu-openvino",
    "trt": "rtx-4090",
    "coreml": "iphone-15",
    "optical4f": "optical-4f-ideal",
    "null": "null",
}

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 3, 8, 8] x, float[batch, 4] shift, float[batch, 1] unused)
    => (float[batch, 4] y, float[batch, 4] z) {
  a = Conv<pads = [1, 1, 1, 1]>(x, w)
  b = Relu(a)
  p = GlobalAveragePool(b)
  f = Flatten(p)
  m = MatMul(f, v)
  y = Add(m, shift)
  z = Identity(y)
}"""


@dataclass(frozen=True)
class Case:
    runtime: Runtime
    device: Device
    exported: Exported
    compiled: Path

    def open(self) -> Session:
        if reason := self.runtime.cannot_run(self.device):
            pytest.skip(reason)
        return self.runtime.open(self.compiled, self.device)


def feed_of(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"x": (batch, 3, 8, 8), "shift": (batch, 4), "unused": (batch, 1)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def weights_of() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"w": (6, 3, 3, 3), "v": (6, 4)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module", params=BUILT)
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    build: Callable[..., Exported],
) -> Case:
    runtime, device = get_runtime(request.param), get_device(DEVICES[request.param])
    exported = build(NET, feed_of(1, seed=9), **weights_of())
    if reason := runtime.missing(device):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(request.param)
    return Case(runtime, device, exported, runtime.compile(exported, device, folder))


def test_the_compiled_file_lies_in_the_folder_given(case: Case) -> None:
    assert case.compiled.exists()


def test_the_golden_input_gets_the_golden_answer(case: Case) -> None:
    with case.open() as session:
        answer = session.run(case.exported.golden.inputs)
    assert list(answer) == ["y", "z"]
    for name, expected in case.exported.golden.outputs.items():
        np.testing.assert_allclose(answer[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_free_batch_takes_any_size(case: Case, batch: int) -> None:
    feed = feed_of(batch)
    with case.open() as session:
        answer = session.run(feed)
    assert {name: (array.shape, array.dtype) for name, array in answer.items()} == {
        "y": ((batch, 4), np.float32),
        "z": ((batch, 4), np.float32),
    }
    if case.runtime.name == "null":
        return  # it computes nothing, by design
    for name, expected in evaluate(case.exported.model)(feed).items():
        np.testing.assert_allclose(answer[name], expected, rtol=1e-4, atol=1e-5)


def test_an_input_of_strided_memory_is_read_right(case: Case) -> None:
    feed = feed_of(2)
    strided = dict(feed, x=np.asfortranarray(feed["x"]))
    with case.open() as session:
        expected, answer = session.run(feed), session.run(strided)
    np.testing.assert_array_equal(answer["y"], expected["y"])


def test_answers_are_fresh_and_equal(case: Case) -> None:
    feed = feed_of(2)
    kept = {name: array.copy() for name, array in feed.items()}
    with case.open() as session:
        first = session.run(feed)
        before = {name: array.copy() for name, array in first.items()}
        for array in first.values():
            array += 1
        second = session.run(feed)
    for name in before:
        np.testing.assert_array_equal(second[name], before[name])
        assert not np.shares_memory(first[name], second[name])
    for name in kept:
        np.testing.assert_array_equal(feed[name], kept[name])


def test_a_missing_input_is_refused(case: Case) -> None:
    feed = feed_of(1)
    del feed["shift"]
    with case.open() as session, pytest.raises(UsageError, match="expected the input 'shift', got x, unused"):
        session.run(feed)


def test_an_unknown_input_is_refused(case: Case) -> None:
    feed = feed_of(1) | {"shifts": np.zeros((1, 4), np.float32)}
    with case.open() as session, pytest.raises(UsageError, match="got 'shifts'; did you mean shift"):
        session.run(feed)


def test_another_dtype_is_refused(case: Case) -> None:
    feed = feed_of(1)
    feed["x"] = feed["x"].astype(np.float64)
    with case.open() as session, pytest.raises(UsageError, match="expected x of float32, got float64"):
        session.run(feed)


@pytest.mark.parametrize("shape", [(1, 3, 9, 8), (1, 3, 64), (0, 3, 8, 8), (2, 3, 8, 8)])
def test_another_shape_is_refused(case: Case, shape: tuple[int, ...]) -> None:
    feed = feed_of(1)
    feed["x"] = np.zeros(shape, np.float32)
    with case.open() as session, pytest.raises(UsageError, match=r"expected (x|shift) of shape \(batch, "):
        session.run(feed)


def test_what_ran_is_told_in_shares(case: Case) -> None:
    with case.open() as session:
        session.run(feed_of(2))
        executed = session.executed()
    assert sum(entry.share for entry in executed) == pytest.approx(1)
    assert all(entry.provider for entry in executed)
    if case.runtime.name != "null":
        assert {entry.precision for entry in executed} - {"analog"} == {"fp32"}


def test_what_ran_is_not_told_before_anything_ran(case: Case) -> None:
    with case.open() as session, pytest.raises(UsageError, match="call run first"):
        session.executed()


def test_a_closed_session_is_refused(case: Case) -> None:
    with case.open() as session:
        session.run(feed_of(1))
    with pytest.raises(UsageError, match="got a closed one"):
        session.run(feed_of(1))
    with pytest.raises(UsageError, match="got a closed one"):
        session.executed()


@pytest.mark.parametrize("damage", ["truncated", "other", "absent"])
def test_a_damaged_file_is_refused(case: Case, damage: str, tmp_path: Path) -> None:
    path = tmp_path / case.compiled.name
    if damage != "absent":
        (shutil.copytree if case.compiled.is_dir() else shutil.copy)(case.compiled, path)
        body = next(path.rglob("*.mlmodel")) if path.is_dir() else path
        data = body.read_bytes()
        body.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"this is no network")
    with pytest.raises(RunError, match=f"{path.name}, got: .*; compile it again"):
        case.runtime.open(path, case.device)


def test_nothing_is_printed(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    compiled = case.runtime.compile(case.exported, case.device, tmp_path)
    if case.runtime.cannot_run(case.device) is None:
        with case.runtime.open(compiled, case.device) as session:
            session.run(feed_of(1))
            session.executed()
    assert capfd.readouterr() == ("", "")


def test_compiling_leaves_only_its_files(case: Case, tmp_path: Path) -> None:
    compiled = case.runtime.compile(case.exported, case.device, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {compiled.stem}


def test_an_unknown_operator_is_refused(case: Case, tmp_path: Path, build: Callable[..., Exported]) -> None:
    if case.runtime.name == "null":
        pytest.skip("refuses nothing, by design")
    bad = build(NET.replace("Relu", "NoSuchOperator"), feed_of(1), golden=False, **weights_of())
    with pytest.raises(BuildError, match=r"to accept net, got: .*NoSuchOperator.*; change the model"):
        case.runtime.compile(bad, case.device, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_missing_here_and_the_version_is_known(case: Case) -> None:
    assert case.runtime.missing(case.device) is None
    library = case.runtime.library
    assert library_version(case.runtime) == (version(library) if library else None)


def test_another_unit_is_missing() -> None:
    for name in ("ort", "ov", "coreml"):
        device = Device("x", "x", name, platform.machine(), unit="NPU7")
        assert "NPU7" in (get_runtime(name).missing(device) or "")
