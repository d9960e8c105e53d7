"""Weights in fewer bits: what is stored is what the formula says, and the rest of a network is as before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fourfold.errors import BuildError, RunError
from fourfold.export.artifact import Array, Compression, Exported
from fourfold.runtimes.coreml.face import read_face
from fourfold.runtimes.coreml.mil.program import load_program
from fourfold.runtimes.coreml.runtime import CoreMlRuntime
from fourfold.runtimes.coreml.stored import Form, form_of, from_json
from fourfold.runtimes.device import Device
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.runtime import Compressed

RUNTIME = CoreMlRuntime()
NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[batch, 32, 9, 8] x) => (float[batch, 40] y) {
  a = Conv<pads = [1, 1, 1, 1]>(x, wide, bias)
  b = Relu(a)
  c = Conv<group = 48, pads = [4, 4, 4, 4]>(b, deep)
  d = Conv(c, narrow)
  e = Add(d, place)
  f = Conv<group = 4>(e, small)
  p = GlobalAveragePool(f)
  g = Flatten(p)
  y = MatMul(g, out)
}"""
SHAPES = {
    "wide": (48, 32, 3, 3),
    "bias": (48,),
    "deep": (48, 1, 9, 9),
    "narrow": (64, 48, 1, 1),
    "place": (1, 64, 9, 8),
    "small": (64, 16, 1, 1),
    "out": (64, 40),
}


def phone(target: str) -> Device:
    return Device("phone", "a phone", "coreml", "aarch64", "ios", "ANE", target=target)


def weights() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    drawn = {name: rng.normal(size=s) / np.sqrt(np.prod(s[1:])) for name, s in SHAPES.items()}
    return {name: array.astype(np.float32) for name, array in drawn.items()}


def made(exported: Exported, target: str, compression: Compression, folder: Path) -> Compressed:
    if reason := RUNTIME.missing(phone(target)):
        pytest.skip(reason)
    plain, small = folder / "plain", folder / "small"
    plain.mkdir()
    small.mkdir()
    compiled = RUNTIME.compile(exported, phone(target), plain)
    return RUNTIME.compress(compiled, phone(target), compression, small)


@pytest.fixture(scope="module")
def network(build: Callable[..., Exported]) -> Exported:
    x = np.random.default_rng(0).normal(size=(2, 32, 9, 8)).astype(np.float32)
    return build(NET, {"x": x}, **weights())


def rounded(weight: Array, levels: int, block: int = 0) -> Array:
    """Round to whole multiples of one scale for each output channel and block of input channels."""
    o, i = weight.shape[:2]
    parts = weight.astype(np.float64).reshape(o, i // (block or i), -1)
    scale = np.abs(parts).max(-1, keepdims=True) / levels
    return (np.rint(parts / scale) * scale).reshape(weight.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("target", "compression", "forms"),
    [
        ("iOS17", "int8", ("int8 per channel",) * 4),
        (
            "iOS18",
            "int4",
            ("int4 in blocks of 32", "int8 per channel", "int4 in blocks of 16", "int4 in blocks of 32"),
        ),
    ],
)
def test_the_package_is_the_network_with_rounded_weights(
    network: Exported,
    build: Callable[..., Exported],
    tmp_path: Path,
    target: str,
    compression: Compression,
    forms: tuple[str, ...],
) -> None:
    small = made(network, target, compression, tmp_path)
    assert small.weights == 4
    assert small.sizes[1] < 0.75 * small.sizes[0]
    assert any(r.reason == "add does not multiply by it channel by channel" for r in small.kept)
    stored = read_face(small.path).weights
    assert tuple(w.form for w in stored) == forms
    assert [w.user for w in stored] == ["a", "c", "d", "y"]
    exact, chosen = weights(), dict(weights())
    exact["out"] = exact["out"].T
    for name, form in zip(("wide", "deep", "narrow", "out"), forms, strict=True):
        block = int(form.split()[-1]) if "blocks" in form else 0
        chosen[name] = rounded(exact[name], 7 if form.startswith("int4") else 127, block)
    chosen["out"] = chosen["out"].T
    feed = dict(network.golden.inputs)
    expected = evaluate(build(NET, feed, golden=False, **chosen).model)(feed)["y"]
    with RUNTIME.open(small.path, phone(target)) as session:
        found = session.run(feed)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - network.golden.outputs["y"]).max() > 1e-4, "nothing was rounded"


def test_what_is_told_of_a_weight_is_what_the_package_holds(network: Exported, tmp_path: Path) -> None:
    small = made(network, "iOS18", "int4", tmp_path)
    program, exact = load_program(small.path), weights()["wide"].astype(np.float64)
    held = (c.value for name, c in program.constants.items() if name.endswith("_quantized"))
    wide = next(v.numpy() for v in held if isinstance(v, torch.Tensor) and v.shape == (48, 32, 3, 3))
    told = read_face(small.path).weights[0]
    noise = np.mean((wide - exact) ** 2)
    assert told.sqnr_db == pytest.approx(10 * np.log10(np.mean(exact**2) / noise), abs=1e-3)
    assert told.sizes == (48 * 32 * 9 * 4, 48 * 32 * 9 // 2 + 48 * 9 * 4)


def test_blocks_of_four_bits_need_the_system_that_has_them() -> None:
    why = RUNTIME.cannot_compress(phone("iOS17"), "int4") or ""
    assert why == (
        "expected a device with iOS 18 or macOS 15 for weights in int4 blocks, got phone with iOS17; "
        "use int8 weights or another device"
    )
    assert "got phone with iOS17" in (RUNTIME.cannot_compress(phone(""), "int4") or "")
    assert RUNTIME.cannot_compress(phone("macOS15"), "int4") is None
    assert RUNTIME.cannot_compress(phone("iOS17"), "int8") is None


def test_a_network_of_small_weights_is_refused(build: Callable[..., Exported], tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    net (float[batch, 8] x) => (float[batch, 8] y) { y = MatMul(x, w) }"""
    tiny = build(text, {"x": np.ones((1, 8), np.float32)}, w=np.eye(8, dtype=np.float32))
    with pytest.raises(
        BuildError, match="expected a weight of more than 2048 values to store in int8, got none"
    ):
        made(tiny, "iOS17", "int8", tmp_path)


def test_a_form_fits_the_operators_that_use_the_weight() -> None:
    linear, conv, table = ("linear", "weight"), ("conv", "weight"), ("gather", "x")
    assert form_of(frozenset({linear}), (10, 96), "int4") == Form(4, 32)
    assert form_of(frozenset({("conv_transpose", "weight")}), (48, 7, 3, 3), "int4") == Form(4, 16)
    assert form_of(frozenset({("matmul", "y")}), (2, 64, 40), "int4") == Form(4, 32)
    assert form_of(frozenset({("matmul", "x")}), (2, 64, 40), "int4") == Form(8)
    assert form_of(frozenset({linear, table}), (10, 96), "int8") == Form(8)
    assert "add, mul does not" in str(
        form_of(frozenset({("add", "y"), ("mul", "x"), conv}), (10, 96), "int8")
    )
    assert "conv does not" in str(form_of(frozenset({("conv", "x")}), (10, 96), "int8"))
    assert "one axis" in str(form_of(frozenset({linear}), (4096,), "int8"))


@pytest.mark.parametrize("text", ["no", "[[1]]", '[["a", [2], "int8", [1], 3.0]]', "{}x"])
def test_other_text_is_no_list_of_weights(text: str) -> None:
    with pytest.raises(RunError, match="expected forms of weights in the package"):
        from_json(text)
