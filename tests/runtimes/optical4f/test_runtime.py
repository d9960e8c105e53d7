"""A network on the simulated processor: proven, noisy, repeatable, and described without mixing figures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import BuildError, RunError
from fourfold.export.artifact import Exported
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.optical4f.program import load, read_program
from fourfold.runtimes.optical4f.runtime import RUNTIME
from fourfold.runtimes.optical4f.session import open_simulation
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.runtime import Describes

NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 4, 8, 8] x) => (float[batch, 5] y) {
  a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)
  r = Relu(a)
  d = Conv<group = 6, pads = [1, 1, 1, 1]>(r, dw)
  p = Conv(d, one)
  f = Flatten(p)
  y = Gemm(f, v, c)
}"""

Build = Callable[..., Exported]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def exported(build: Build) -> Exported:
    shapes = {"w": (6, 4, 3, 3), "b": (6,), "dw": (6, 1, 3, 3), "one": (2, 6, 1, 1), "v": (32, 5), "c": (5,)}
    weights = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    return build(NET, {"x": normal(4, 4, 8, 8, seed=9)}, **weights)


@pytest.fixture(scope="module")
def device() -> Device:
    return get_device("optical-4f")


@pytest.fixture(scope="module")
def compiled(exported: Exported, device: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return RUNTIME.compile(exported, device, tmp_path_factory.mktemp("compiled"))


def off(answer: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(answer - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("optical-4f-ideal", 0, 1e-6),
        ("optical-4f", 1e-4, 0.1),
        ("optical-4f-dmd", 1e-3, 0.2),
        ("optical-4f-pn", 1e-3, 0.5),
    ],
)
def test_every_device_is_as_noisy_as_its_parts(
    exported: Exported, tmp_path: Path, name: str, low: float, high: float
) -> None:
    device = get_device(name)
    x = normal(3, 4, 8, 8, seed=5)
    with RUNTIME.open(RUNTIME.compile(exported, device, tmp_path), device) as session:
        answer = session.run({"x": x})["y"]
    assert low <= off(answer, evaluate(exported.model)({"x": x})["y"]) <= high


def test_a_program_is_proven_and_says_how_well(compiled: Path) -> None:
    program = read_program(compiled)
    assert [step.layer.kind for step in program.steps] == ["conv2d", "conv2d", "linear"]
    assert 0 < max(step.proof for step in program.steps) < 1e-6
    assert program.proof < 1e-5
    assert program.steps[0].layer.signed_input
    assert not program.steps[1].layer.signed_input


def test_noise_is_that_of_the_inputs_and_the_seed(compiled: Path) -> None:
    first, other = {"x": normal(2, 4, 8, 8)}, {"x": normal(2, 4, 8, 8) + 1e-3}
    with open_simulation(compiled) as session, open_simulation(compiled, seed=1) as second:
        answer = session.run(first)["y"]
        np.testing.assert_array_equal(session.run(first)["y"], answer)
        assert off(second.run(first)["y"], answer) > 1e-5
        assert off(session.run(other)["y"], answer) > 1e-5


def test_another_hardware_runs_the_same_program(compiled: Path, exported: Exported) -> None:
    ideal = replace(read_program(compiled).system, ideal=True)
    feed = {"x": normal(2, 4, 8, 8)}
    with open_simulation(compiled, system=ideal) as session:
        assert off(session.run(feed)["y"], evaluate(exported.model)(feed)["y"]) < 1e-6


def test_it_is_called_a_simulation(compiled: Path, device: Device) -> None:
    assert "no light was involved" in (RUNTIME.emulated(device) or "")
    with RUNTIME.open(compiled, device) as session:
        session.run({"x": normal(1, 4, 8, 8)})
        shares = {part.precision: (part.provider, part.nodes) for part in session.executed()}
    assert shares == {"analog": ("4f (simulated)", 3), "fp32": ("reference", 2)}


def test_exhibits_never_mix_modelled_and_measured(compiled: Path, device: Device) -> None:
    assert isinstance(RUNTIME, Describes)
    shown = {exhibit.title: exhibit for exhibit in RUNTIME.describe(compiled, device)}
    plain = [title for title, exhibit in shown.items() if not exhibit.modelled]
    assert plain == ["Where each node is computed", "Digital baseline, measured on this machine"]
    assert all(len(row) == len(e.columns) for e in shown.values() for row in e.rows)
    assert "221 times the fastest commercial camera" in str(
        shown["Input and output against what is sold"].rows
    )
    assert shown["Frames of each layer"].rows[-1][0] == "all"
    assert len(shown["Frames of each layer"].rows) == 4
    assert shown["Digital baselines, counted"].rows[1][0] == "FFT convolution"


def test_a_picture_larger_than_the_plane_stays_electronic(
    build: Build, device: Device, tmp_path: Path
) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    net (float[1, 1, 4, 2000] x) => (float[1, 1, 4, 1998] y) { y = Conv(x, w) }"""
    big = build(text, {"x": normal(1, 1, 4, 2000)}, w=normal(1, 1, 1, 3))
    program = read_program(RUNTIME.compile(big, device, tmp_path))
    assert not program.steps
    assert program.placements[0].reason == "a picture of 4x2000 is larger than the plane of 1080x1920"


def test_a_network_without_light_still_runs(build: Build, device: Device, tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> net (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }'
    net = build(text, {"x": normal(2, 3)})
    with RUNTIME.open(RUNTIME.compile(net, device, tmp_path), device) as session:
        np.testing.assert_array_equal(session.run({"x": normal(2, 3)})["y"], np.maximum(normal(2, 3), 0))


@pytest.mark.parametrize("part", ["program.safetensors", "program.onnx"])
def test_a_program_with_a_damaged_part_is_refused(
    exported: Exported, device: Device, tmp_path: Path, part: str
) -> None:
    compiled = RUNTIME.compile(exported, device, tmp_path)
    (tmp_path / part).write_bytes(b"this is nothing")
    with pytest.raises(
        RunError, match=r"expected an optical program in program.json, got: .*compile it again"
    ):
        RUNTIME.open(compiled, device)


def test_a_program_of_another_version_is_refused(compiled: Path, tmp_path: Path) -> None:
    path = tmp_path / compiled.name
    path.write_text(compiled.read_text().replace('"version": 3', '"version": 7', 1))
    with pytest.raises(RunError, match="version 7 instead of 3"):
        load(path)


def test_an_unknown_preset_is_missing(device: Device) -> None:
    missing = RUNTIME.missing(replace(device, preset="lcos-hetero"))
    assert "did you mean lcos-homodyne" in (missing or "")


def test_a_graph_that_is_no_onnx_is_refused(build: Build, device: Device, tmp_path: Path) -> None:
    bad = build(
        '<ir_version: 10, opset_import: ["": 20]> net (float[N] x) => (float[N] y) { y = Nothing(x) }',
        {"x": normal(2)},
        golden=False,
    )
    with pytest.raises(BuildError, match=r"the optical 4f processor to accept net, got: .*Nothing.*; change"):
        RUNTIME.compile(bad, device, tmp_path)
