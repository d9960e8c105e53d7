"""Graphs that OpenVINO answers wrongly are refused; their right forms run right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourfold.errors import BuildError
from fourfold.export.artifact import Exported
from fourfold.export.passes import rewrite
from fourfold.runtimes import ov
from fourfold.runtimes.device import get_device
from fourfold.runtimes.reference import evaluate

if reason := ov.RUNTIME.missing(get_device("cpu-openvino")):
    pytest.skip(reason, allow_module_level=True)

Build = Callable[..., Exported]

SCAN = """<ir_version: 10, opset_import: ["": 20]>
net (float[5, N, 4] a, float[5, N, 4] b, float[N, 4] h0) => (float[5, N, 4] y, float[N, 4] last) {
  last, y = Scan<num_scan_inputs = 2, body = step (float[N, 4] h, float[N, 4] s, float[N, 4] t)
      => (float[N, 4] o, float[N, 4] oo) { BODY oo = Identity(o) }>(h0, a, b)
}"""

DFT = """<ir_version: 10, opset_import: ["": OPSET]>
net (float[batch, 6, 5, 2] x) => (float[batch, 6, 5, 2] y)
<int64 one = {1}, int64 two = {2}, int64 back = {-3}>
{ y = DFT ARGS }"""


def scan(build: Build, body: str, size: str, batch: int = 2) -> Exported:
    rng = np.random.default_rng(0)
    feed = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {"a": (5, batch, 4), "b": (5, batch, 4), "h0": (batch, 4)}.items()
    }
    return build(SCAN.replace("BODY", body).replace("N", size), feed)


def dft(build: Build, opset: int, args: str) -> Exported:
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 2)).astype(np.float32)
    return build(DFT.replace("OPSET", str(opset)).replace("ARGS", args), {"x": x})


def answers_right(exported: Exported, folder: Path) -> None:
    device = get_device("cpu-openvino")
    compiled = ov.RUNTIME.compile(exported, device, folder)
    with ov.RUNTIME.open(compiled, device) as session:
        answer = session.run(exported.golden.inputs)
    for name, expected in exported.golden.outputs.items():
        np.testing.assert_allclose(answer[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(s, h) o = Add(m, t)",
        "m = Add(s, h) o = Mul(m, t)",
        "m = Max(s, h) o = Add(m, t)",
        "m = Min(s, h) o = Add(m, t)",
        "o = PRelu(s, h)",
        "o = Sum(s, t, h)",
        "i = Identity(h) m = Mul(s, i) o = Add(m, t)",
        "k = Constant<value_ints = [2, 4]>() r = Reshape(h, k) m = Mul(s, r) o = Add(m, t)",
    ],
)
def test_a_static_scan_that_overwrites_its_state_is_refused(build: Build, body: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"'\w*' in Scan 'last' with the state as a later input"):
        ov.RUNTIME.compile(scan(build, body, "2"), get_device("cpu-openvino"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(h, s) o = Add(m, t)",
        "m = Mul(h, s) o = Add(t, m)",
        "m = Sub(s, h) o = Add(m, t)",
        "m = Div(t, h) o = Add(m, s)",
        "k = Constant<value_float = 0.5>() m = Mul(k, h) o = Add(s, m)",
        "m = Mul(h, h) o = Add(s, m)",
    ],
)
@pytest.mark.parametrize("size", ["2", "batch"])
def test_a_scan_with_its_state_first_runs_right(build: Build, body: str, size: str, tmp_path: Path) -> None:
    answers_right(scan(build, body, size), tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(s, h) o = Add(m, t)",
        "m = Add(s, h) o = Mul(m, t)",
        "m = Max(s, h) o = Add(m, t)",
        "m = Min(s, t, h) o = Add(m, t)",
        "o = Sum(s, t, h)",
        "o = Mean(s, t, h)",
        "i = Identity(h) m = Mul(s, i) o = Add(m, t)",
        "k = Constant<value_ints = [2, 4]>() r = Reshape(h, k) m = Mul(s, r) o = Add(m, t)",
        # The state is read in a second place, before and after.
        "m = Mul(s, h) o = Sub(m, h)",
        "m = Mul(s, h) n = Mul(t, h) o = Sub(m, n)",
        "n = Exp(h) m = Mul(s, h) o = Sub(m, n)",
    ],
)
def test_a_static_scan_runs_right_after_the_rewrites(build: Build, body: str, tmp_path: Path) -> None:
    exported = scan(build, body, "2")
    with pytest.raises(BuildError, match="as a later input"):
        ov.RUNTIME.compile(exported, get_device("cpu-openvino"), tmp_path)
    answers_right(rewrite(exported, ov.RUNTIME.passes, evaluate=evaluate), tmp_path)


def test_a_scan_of_free_batch_keeps_its_free_plan(build: Build, tmp_path: Path) -> None:
    answers_right(scan(build, "m = Mul(s, h) o = Add(m, t)", "batch"), tmp_path)


def test_a_trap_inside_a_branch_is_found(build: Build, tmp_path: Path) -> None:
    inner = """last, y = Scan<num_scan_inputs = 1, body = step (float[4] h, float[4] s)
      => (float[4] o, float[4] oo) { o = Mul(s, h) oo = Identity(o) }>(h0, a)"""
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    net (float[5, 4] a, float[4] h0, bool c) => (float[5, 4] z) {{
      z = If(c) <then_branch = yes () => (float[5, 4] y) {{ {inner} }},
                 else_branch = no () => (float[5, 4] n) {{ n = Neg(a) }}>
    }}"""
    feed = {"a": np.full((5, 4), 2, np.float32), "h0": np.ones(4, np.float32), "c": np.array(True)}
    with pytest.raises(BuildError, match="in Scan"):
        ov.RUNTIME.compile(build(text, feed), get_device("cpu-openvino"), tmp_path)


@pytest.mark.parametrize(
    ("opset", "args", "why"),
    [
        (20, "(x, , two)", "over another axis than 1"),
        (20, "(x)", "over another axis than 1"),
        (23, "(x, , two)", "over another axis than 1"),
    ],
)
def test_a_dft_over_an_ignored_axis_is_refused(
    build: Build, opset: int, args: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=why):
        ov.RUNTIME.compile(dft(build, opset, args), get_device("cpu-openvino"), tmp_path)


def test_a_dft_with_one_side_is_refused(build: Build, tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    net (float[batch, 6, 5, 1] x) => (float[batch, 4, 5, 2] y) { y = DFT<axis = 1, onesided = 1>(x) }"""
    bad = build(text, {"x": np.ones((1, 6, 5, 1), np.float32)})
    with pytest.raises(BuildError, match="with onesided"):
        ov.RUNTIME.compile(bad, get_device("cpu-openvino"), tmp_path)


@pytest.mark.parametrize(
    ("opset", "args"),
    [
        (17, "<axis = 2>(x)"),
        (18, "<axis = 2, inverse = 1>(x)"),
        (19, "<axis = 1>(x)"),
        (20, "(x, , one)"),
        (20, "(x, , back)"),
        (20, "<inverse = 1>(x, , one)"),
    ],
)
def test_the_right_forms_of_a_dft_run_right(build: Build, opset: int, args: str, tmp_path: Path) -> None:
    answers_right(dft(build, opset, args), tmp_path)
