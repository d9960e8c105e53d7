"""Every claim of an engine's capability table, proven on a small graph against numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourfold.calibration.scheme import ARM
from fourfold.export.artifact import Exported, Feed
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import BUILT, get_runtime
from fourfold.runtimes.runtime import Capabilities, Executed

DEVICES = {"ort": "cpu-ort", "ov": "cpu-openvino", "coreml": "iphone-15", "optical4f": "optical-4f-ideal"}
"""The null engine computes nothing, so its table has nothing to prove."""

Build = Callable[..., Exported]


def run_on(name: str, exported: Exported, folder: Path) -> tuple[Feed, tuple[Executed, ...]]:
    runtime, device = get_runtime(name), get_device(DEVICES[name])
    if reason := runtime.missing(device):
        pytest.skip(reason)
    compiled = runtime.compile(exported, device, folder)
    with runtime.open(compiled, device) as session:
        return session.run(exported.golden.inputs), session.executed()


def check(name: str, exported: Exported, folder: Path, expected: np.ndarray) -> None:
    answer, _ = run_on(name, exported, folder)
    np.testing.assert_allclose(answer["y"], expected, rtol=1e-4, atol=1e-5)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def net(opset: int, body: str, inputs: str = "float[batch, 4] x", output: str = "float[batch, 4] y") -> str:
    return f'<ir_version: 8, opset_import: ["": {opset}]> net ({inputs}) => ({output}) {{ {body} }}'


@pytest.mark.parametrize("name", BUILT)
def test_everything_short_of_yes_has_its_reason(name: str) -> None:
    table: Capabilities = get_runtime(name).capabilities
    claims = {
        **table.control_flow,
        "attention": table.attention,
        "fft": table.fft,
        "dynamic_shapes": table.dynamic_shapes,
    }
    assert set(table.control_flow) == {"If", "Loop", "Scan"}
    assert set(table.notes) == {claim for claim, support in claims.items() if support != "yes"}
    assert table.opsets[0] <= table.opset <= table.opsets[1]
    assert ("int8" in table.precisions) == (table.qdq is not None)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("end", ["lowest", "highest", "written"])
def test_the_opsets_at_the_ends_run_right(name: str, end: str, build: Build, tmp_path: Path) -> None:
    table = get_runtime(name).capabilities
    opset = {"lowest": table.opsets[0], "highest": table.opsets[1], "written": table.opset}[end]
    x, w, k = normal(3, 2, 5, 5), normal(4, 9, seed=1), normal(4, 2, 3, 3, seed=2)
    body = """a = Conv(x, k)  b = Relu(a)  p = GlobalMaxPool(b)  f = Flatten(p)  m = MatMul(f, w)
              s = Softmax<axis = 1>(m)  t = Transpose<perm = [1, 0]>(s)  y = Concat<axis = 0>(t, t)"""
    text = net(opset, body, "float[batch, 2, 5, 5] x", "float[18, batch] y")
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    conv = np.einsum("bchwij,ocij->bohw", windows, k)
    half = softmax(np.maximum(conv, 0).max((2, 3)) @ w).T
    check(name, build(text, {"x": x}, w=w, k=k), tmp_path, np.vstack([half, half]))


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("opset", [17, 20, 25])
@pytest.mark.parametrize("sign", [1, -1])
def test_if_takes_the_right_branch(name: str, opset: int, sign: int, build: Build, tmp_path: Path) -> None:
    x = np.abs(normal(3, 4)) * np.float32(sign)
    body = """s = ReduceSum<keepdims = 0>(x)  c = Greater(s, zero)
      y = If(c) <then_branch = yes () => (float[batch, 4] a) { a = Mul(x, x) },
                 else_branch = no () => (float[batch, 4] b) { b = Neg(x) }>"""
    exported = build(net(opset, body), {"x": x}, zero=np.float32(0))
    check(name, exported, tmp_path, x * x if sign > 0 else -x)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("opset", [17, 20, 25])
def test_loop_repeats(name: str, opset: int, build: Build, tmp_path: Path) -> None:
    x = normal(3, 4)
    body = """y = Loop(n, go, x) <body = step (int64 i, bool k, float[batch, 4] h)
      => (bool k2, float[batch, 4] h2) { k2 = Identity(k)  g = Mul(h, x)  h2 = Add(g, x) }>"""
    exported = build(net(opset, body), {"x": x}, n=np.int64(3), go=np.bool_(True))
    expected = x
    for _ in range(3):
        expected = expected * x + x
    check(name, exported, tmp_path, expected)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("opset", [17, 20, 25])
@pytest.mark.parametrize("batch", ["batch", "3"])
def test_scan_carries_its_state(name: str, opset: int, batch: str, build: Build, tmp_path: Path) -> None:
    a, b, h = normal(5, 3, 4), normal(5, 3, 4, seed=1), normal(3, 4, seed=2)
    body = """last, y = Scan<num_scan_inputs = 2, body = step (float[N, 4] h, float[N, 4] s, float[N, 4] t)
      => (float[N, 4] o, float[N, 4] oo) { m = Mul(h, s)  o = Add(m, t)  oo = Identity(o) }>(h0, a, b)"""
    text = net(opset, body, "float[5, N, 4] a, float[5, N, 4] b, float[N, 4] h0", "float[5, N, 4] y")
    exported = build(text.replace("N", batch), {"a": a, "b": b, "h0": h})
    expected = [h := h * s + t for s, t in zip(a, b, strict=True)]
    check(name, exported, tmp_path, np.stack(expected))


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("mask", [False, True])
def test_attention_is_one_operator(name: str, opset: int, mask: bool, build: Build, tmp_path: Path) -> None:
    q, k, v = (normal(2, 2, 6, 8, seed=seed) for seed in range(3))
    shape = "float[batch, 2, 6, 8]"
    inputs, output = f"{shape} q, {shape} k, {shape} v", f"{shape} y"
    exported = build(
        net(opset, f"y = Attention<is_causal = {int(mask)}>(q, k, v)", inputs, output),
        {"q": q, "k": k, "v": v},
    )
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(np.float32(8))
    scores = np.where(np.tri(6, dtype=bool), scores, -np.inf) if mask else scores
    check(name, exported, tmp_path, softmax(scores) @ v)


def complex_pairs(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], -1).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "opset", "args", "axis"),
    [
        ("ort", 17, "<axis = 2>(x)", 2),
        ("ort", 20, "(x)", 2),
        ("ort", 20, "(x, , one)", 1),
        ("ov", 17, "<axis = 2>(x)", 2),
        ("ov", 19, "<axis = 1>(x)", 1),
        ("ov", 20, "(x, , one)", 1),
    ],
)
def test_dft_transforms(name: str, opset: int, args: str, axis: int, build: Build, tmp_path: Path) -> None:
    x = normal(3, 6, 5, 2)
    shape = "float[batch, 6, 5, 2]"
    exported = build(net(opset, f"y = DFT {args}", f"{shape} x", f"{shape} y"), {"x": x}, one=np.int64(1))
    check(name, exported, tmp_path, complex_pairs(np.fft.fft(x[..., 0] + 1j * x[..., 1], axis=axis)))


def test_dft_of_one_side_transforms_in_ort(build: Build, tmp_path: Path) -> None:
    x = normal(3, 6, 5, 1)
    text = net(20, "y = DFT<onesided = 1>(x, , one)", "float[batch, 6, 5, 1] x", "float[batch, 4, 5, 2] y")
    exported = build(text, {"x": x}, one=np.int64(1))
    check("ort", exported, tmp_path, complex_pairs(np.fft.rfft(x[..., 0], axis=1)))


@pytest.mark.parametrize("name", DEVICES)
def test_a_free_batch_may_change_in_one_session(name: str, build: Build, tmp_path: Path) -> None:
    runtime, device = get_runtime(name), get_device(DEVICES[name])
    if reason := runtime.missing(device):
        pytest.skip(reason)
    w = normal(4, 4, seed=1)
    exported = build(net(20, "y = MatMul(x, w)"), {"x": normal(1, 4)}, w=w)
    with runtime.open(runtime.compile(exported, device, tmp_path), device) as session:
        for batch in (1, 3, 2, 7, 5, 9, 1, 4):
            x = normal(batch, 4, seed=batch)
            np.testing.assert_allclose(session.run({"x": x})["y"], x @ w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in DEVICES if get_runtime(n).capabilities.qdq])
def test_int8_runs_on_integer_kernels(name: str, build: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = normal(3, 32)
    w = rng.integers(-127, 128, (32, 16)).astype(np.int8)
    style = get_runtime(name).capabilities.qdq
    assert style is not None
    body = """xq = QuantizeLinear(x, sx, zx)  xd = DequantizeLinear(xq, sx, zx)
              wd = DequantizeLinear<axis = 1>(w, sw)  m = MatMul(xd, wd)
              mq = QuantizeLinear(m, sm, zx)  y = DequantizeLinear(mq, sm, zx)"""
    kind, zero = (np.uint8, 128) if style.activations == "uint8" else (np.int8, 0)
    scales = {
        "sx": np.float32(0.03),
        "sm": np.float32(0.05),
        "sw": np.linspace(0.002, 0.004, 16, dtype=np.float32),
    }
    text = net(20, body, "float[batch, 32] x", "float[batch, 16] y")
    exported = build(text, {"x": x}, w=w, zx=kind(zero), **scales)
    answer, executed = run_on(name, exported, tmp_path)

    def rounded(array: np.ndarray, scale: np.float32) -> np.ndarray:
        return np.clip(np.rint(array / scale), -128, 127) * scale

    exact = rounded(x, scales["sx"]) @ (w * scales["sw"])
    # One step of the output's scale: rounding of the product may fall on either side.
    np.testing.assert_allclose(answer["y"], rounded(exact, scales["sm"]), atol=float(scales["sm"]) * 1.01)
    assert {entry.precision for entry in executed} <= {"fp32", "int8"}
    assert any(entry.precision == "int8" for entry in executed)


@pytest.mark.parametrize("name", DEVICES)
def test_a_callers_bytes_are_not_taken_for_quantization(name: str, build: Build, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 4)).astype(np.uint8)
    body = """t = Transpose<perm = [1, 0]>(x)  f = Cast<to = 1>(t)  g = Greater(f, half)
              n = Not(g)  k = Where(n, f, half)  y = Sqrt(k)"""
    text = net(20, body, "uint8[batch, 4] x", "float[4, batch] y")
    answer, executed = run_on(name, build(text, {"x": x}, half=np.float32(99.5)), tmp_path)
    np.testing.assert_allclose(answer["y"], np.sqrt(np.minimum(x.T.astype(np.float32), 99.5)), rtol=1e-6)
    assert {entry.precision for entry in executed} == {"fp32"}


@pytest.mark.parametrize("name", DEVICES)
def test_a_float_product_stays_in_float32(name: str, build: Build, tmp_path: Path) -> None:
    # bfloat16 keeps 8 bits of a number, float16 11: an error near 1e-3 would show either.
    x, w = normal(16, 256), normal(256, 256, seed=1)
    text = net(20, "y = MatMul(x, w)", "float[batch, 256] x", "float[batch, 256] y")
    answer, executed = run_on(name, build(text, {"x": x}, w=w), tmp_path)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    assert np.abs(answer["y"] - exact).max() < 1e-5 * np.abs(exact).max()
    light = "analog" in get_runtime(name).capabilities.precisions
    assert {entry.precision for entry in executed} == {"analog" if light else "fp32"}


def test_arm_boards_get_their_own_style() -> None:
    table = get_runtime("ort").capabilities
    assert table.style_for(get_device("raspberry-pi-5")) is ARM
    assert table.style_for(get_device("cpu-ort")) is table.qdq
    assert (
        get_runtime("ov").capabilities.style_for(get_device("intel-igpu"))
        is get_runtime("ov").capabilities.qdq
    )
