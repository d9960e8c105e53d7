"""Engines of TensorRT-RTX are really built here, without a GPU; nothing is run."""

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fourfold.errors import BuildError, RunError, UnsupportedError
from fourfold.export.artifact import Exported
from fourfold.export.passes import rewrite
from fourfold.export.precision import to_fp16
from fourfold.runtimes.device import Device, get_device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.runtime import Describes
from fourfold.runtimes.trt import order
from fourfold.runtimes.trt.facts import Facts, beside, read_facts

Build = Callable[..., Exported]
RUNTIME = get_runtime("trt")
DEVICE = get_device("rtx-4090")

pytestmark = pytest.mark.skipif(RUNTIME.missing(DEVICE) is not None, reason=RUNTIME.missing(DEVICE) or "")


def net(
    body: str, inputs: str = "float[batch, 4] x", output: str = "float[batch, 4] y", opset: int = 20
) -> str:
    domains = f'"": {opset}, "outside": 1'
    return f"<ir_version: 8, opset_import: [{domains}]> net ({inputs}) => ({output}) {{ {body} }}"


def compiled(exported: Exported, folder: Path, device: Device = DEVICE) -> Facts:
    return read_facts(RUNTIME.compile(exported, device, folder))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def convolution(build: Build) -> Exported:
    body = "a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(a) p = GlobalAveragePool(b) y = Flatten(p)"
    text = net(body, "float[batch, 32, 8, 8] x", "float[batch, 32] y")
    return build(text, {"x": normal(2, 32, 8, 8)}, w=normal(32, 32, 3, 3, seed=1))


def test_two_builds_are_the_same_bytes(convolution: Exported, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        RUNTIME.compile(convolution, DEVICE, folder)
    for name in ("model.engine", "model.json"):
        first, second = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in folders)
        assert first == second


def test_the_facts_describe_the_engine(convolution: Exported, tmp_path: Path) -> None:
    facts = compiled(convolution, tmp_path)
    engine = (tmp_path / "model.engine").read_bytes()
    assert facts.sha256 == hashlib.sha256(engine).hexdigest()
    assert facts.size == len(engine) > 1000
    assert (facts.title, facts.compute, facts.precision) == ("TensorRT-RTX", "SM89", "fp32")
    assert facts.profile == {"x": [[1, 32, 8, 8], [1, 32, 8, 8], [32, 32, 8, 8]]}
    assert facts.operators == {"Conv": 1, "Flatten": 1, "GlobalAveragePool": 1, "Relu": 1}
    assert facts.memory["Weights"] >= 32 * 32 * 9 * 4
    assert facts.inputs == convolution.inputs
    named = {node for layer in facts.layers for node in layer.nodes}
    assert any("a" in name for name in named)
    assert {layer.precision for layer in facts.layers} <= {"fp32", "other"}


def test_the_report_shows_the_engine_and_its_layers(convolution: Exported, tmp_path: Path) -> None:
    path = RUNTIME.compile(convolution, DEVICE, tmp_path)
    assert isinstance(RUNTIME, Describes)
    engine, precisions, operators, layers = RUNTIME.describe(path, DEVICE)
    assert ("sha256", hashlib.sha256(path.read_bytes()).hexdigest()) in engine.rows
    assert ("never run" in engine.note) == (RUNTIME.cannot_run(DEVICE) is not None)
    assert ("Conv", "1", "taken") in operators.rows
    assert sum(int(row[2]) for row in precisions.rows) == len(layers.rows)
    assert all(len(row) == len(layers.columns) for row in layers.rows)
    assert not any(exhibit.modelled for exhibit in (engine, precisions, operators, layers))


def test_float16_builds_as_float16(convolution: Exported, tmp_path: Path) -> None:
    facts = compiled(to_fp16(convolution, evaluate=evaluate), tmp_path)
    assert facts.precision == "fp16"
    products = [layer for layer in facts.layers if layer.kind == "correlation"]
    assert products
    assert {layer.precision for layer in products} == {"fp16"}


def test_int8_builds_as_int8(build: Build, tmp_path: Path) -> None:
    body = """xq = QuantizeLinear(x, sx, zx)  xd = DequantizeLinear(xq, sx, zx)
              wd = DequantizeLinear<axis = 1>(w, sw)  y = MatMul(xd, wd)"""
    weights = {"w": np.ones((32, 16), np.int8), "sw": np.linspace(0.01, 0.02, 16, dtype=np.float32)}
    text = net(body, "float[batch, 32] x", "float[batch, 16] y")
    exported = build(text, {"x": normal(3, 32)}, sx=np.float32(0.03), zx=np.int8(0), **weights)
    facts = compiled(replace(exported, precision="int8"), tmp_path)
    assert [layer.precision for layer in facts.layers if layer.kind == "gemm"] == ["int8"]


@pytest.mark.parametrize("opset", [7, 25])
def test_the_opsets_at_the_ends_build(opset: int, build: Build, tmp_path: Path) -> None:
    body = """a = Conv(x, k)  b = Relu(a)  p = GlobalMaxPool(b)  f = Flatten(p)  m = MatMul(f, w)
              s = Softmax<axis = 1>(m)  t = Transpose<perm = [1, 0]>(s)  y = Concat<axis = 0>(t, t)"""
    text = net(body, "float[batch, 2, 5, 5] x", "float[18, batch] y", opset)
    exported = build(text, {}, golden=False, w=normal(4, 9), k=normal(4, 2, 3, 3))
    assert compiled(exported, tmp_path).layers


def test_branches_and_loops_build(build: Build, tmp_path: Path) -> None:
    body = """s = ReduceSum<keepdims = 0>(x)  c = Greater(s, zero)
      b = If(c) <then_branch = yes () => (float[batch, 4] p) { p = Mul(x, x) },
                 else_branch = no () => (float[batch, 4] q) { q = Neg(x) }>
      l = Loop(n, go, b) <body = step (int64 i, bool k, float[batch, 4] h)
        => (bool k2, float[batch, 4] h2) { k2 = Identity(k)  g = Mul(h, x)  h2 = Add(g, x) }>
      u = Unsqueeze(l, first)
      last, z = Scan<num_scan_inputs = 1, body = each (float[batch, 4] h, float[batch, 4] t)
        => (float[batch, 4] o, float[batch, 4] oo) { o = Add(h, t)  oo = Identity(o) }>(x, u)
      y = Add(last, x)"""
    weights = {"zero": np.float32(0), "n": np.int64(3), "go": np.bool_(True), "first": np.array([0])}
    facts = compiled(build(net(body), {"x": normal(2, 4)}, **weights), tmp_path)
    assert {"If", "Loop", "Scan"} <= set(facts.operators)


@pytest.mark.parametrize(
    ("body", "opset", "inputs", "output"),
    [
        ("y = Attention<is_causal = 1>(x, x, x)", 23, "float[batch, 2, 6, 8] x", "float[batch, 2, 6, 8] y"),
        ("y = DFT(x, , axis)", 20, "float[batch, 6, 5, 2] x", "float[batch, 6, 5, 2] y"),
        (
            "b = DequantizeLinear(c, scale) y = Add(x, b)",
            *(20, "float[batch, 4] x", "float[batch, 4] y"),
        ),
    ],
    ids=["attention", "dft", "int32"],
)
def test_what_does_not_build_is_rewritten_and_builds(
    body: str, opset: int, inputs: str, output: str, build: Build, tmp_path: Path
) -> None:
    weights = {"axis": np.int64(1), "c": np.arange(4, dtype=np.int32), "scale": np.float32(0.5)}
    exported = build(net(body, inputs, output, opset), {}, golden=False, **weights)
    with pytest.raises(UnsupportedError, match=r"to accept net, got: .*'(y|b)' \(.*change the model"):
        RUNTIME.compile(exported, DEVICE, tmp_path)
    assert not list(tmp_path.iterdir())
    assert compiled(rewrite(exported, RUNTIME.passes, evaluate=evaluate), tmp_path).layers


def test_every_bad_node_is_named_at_once(build: Build, tmp_path: Path) -> None:
    body = "a = Strange(x) b = outside.Odd(a) c = DFT(x) d = NonZero(x) y = Relu(b)"
    exported = build(net(body, "float[2, 4, 2] x", "float[2, 4] y"), {}, golden=False)
    with pytest.raises(UnsupportedError) as caught:
        RUNTIME.compile(exported, DEVICE, tmp_path)
    for said in ("Strange 'a' (TensorRT has no", "Odd 'b'", "no Fourier transform", "depends on the data"):
        assert said in str(caught.value)
    assert caught.value.exit_code == 1


def test_odd_names_scalars_and_two_free_inputs_build(build: Build, tmp_path: Path) -> None:
    text = net("y = Mul(x, s) z = Gather(w, i)", "float[batch, 4] x, int64[batch] i, float s")
    text = text.replace("(float[batch, 4] y)", "(float[batch, 4] y, float[batch, 4] z)")
    exported = build(text, {}, golden=False, w=normal(3, 4))
    for value in (*exported.model.graph.inputs, *exported.model.graph.outputs):
        value.name = f"Name: {value.name}, LayerType: [ü] }}"
    specs = {
        key: tuple(replace(spec, name=f"Name: {spec.name}, LayerType: [ü] }}") for spec in given)
        for key, given in (("inputs", exported.inputs), ("outputs", exported.outputs))
    }
    facts = compiled(replace(exported, inputs=specs["inputs"], outputs=specs["outputs"]), tmp_path)
    assert len(facts.profile) == 2
    assert facts.layers


def test_a_fixed_batch_needs_no_batch_sizes(build: Build, tmp_path: Path) -> None:
    exported = build(net("y = Relu(x)", "float[3, 4] x", "float[3, 4] y"), {"x": normal(3, 4)})
    assert compiled(exported, tmp_path, replace(DEVICE, batches=())).profile == {}


def test_a_free_batch_without_batch_sizes_is_refused(convolution: Exported, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"batch sizes in the row of rtx-4090 .* got none; set 'batches'"):
        RUNTIME.compile(convolution, replace(DEVICE, batches=()), tmp_path)


def test_another_free_size_is_refused(build: Build, tmp_path: Path) -> None:
    exported = build(net("y = Relu(x)", "float[batch, L] x", "float[batch, L] y"), {}, golden=False)
    with pytest.raises(BuildError, match="got 'L' in the input 'x'; fix it with --input-shape"):
        RUNTIME.compile(exported, DEVICE, tmp_path)


def test_float32_products_for_turing_are_refused(convolution: Exported, build: Build, tmp_path: Path) -> None:
    exported = build(net("y = MatMul(x, w)"), {}, golden=False, w=normal(4, 4))
    with pytest.raises(
        UnsupportedError, match=r"MatMul 'y' \(float32 products .* SM75; use --precision fp16"
    ):
        RUNTIME.compile(exported, get_device("t4"), tmp_path)


def test_what_the_builder_minds_is_one_sentence(build: Build, tmp_path: Path) -> None:
    # Too small for a kernel, which neither the parser nor the table knows.
    shape = "float16[batch, 2, 6, 8]"
    text = net("y = Attention(q, k, v)", f"{shape} q, {shape} k, {shape} v", f"{shape} y", opset=23)
    with pytest.raises(
        BuildError, match="to accept net, got: Attention operation was not supported"
    ) as caught:
        RUNTIME.compile(build(text, {}, golden=False), DEVICE, tmp_path)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_build_prints_nothing(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exported = build(net("y = Strange(x)"), {}, golden=False)
    with pytest.raises(UnsupportedError):
        RUNTIME.compile(exported, DEVICE, tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "said", "how"),
    [
        (-signal.SIGSEGV, b"", r"\(signal 11\); free"),
        (1, b"trace\nMemoryError: no", r"exit code 1, MemoryError"),
    ],
)
def test_a_builder_that_dies_is_one_sentence(
    code: int, said: bytes, how: str, convolution: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess[bytes]([], code, b"", said)
    monkeypatch.setattr(order.subprocess, "run", lambda *a, **k: done)
    with pytest.raises(BuildError, match=f"expected TensorRT-RTX to build net, got the end of its .*{how}"):
        RUNTIME.compile(convolution, DEVICE, tmp_path)


def _emptied(facts: dict[str, Any]) -> dict[str, Any]:
    return {}


def _without_layers(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != "layers"}


def _of_another(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {"sha256": "0" * 64}


def _with_more(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {"more": 1}


@pytest.mark.parametrize("change", [_emptied, _without_layers, _of_another, _with_more])
def test_damaged_facts_are_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], build: Build, tmp_path: Path
) -> None:
    exported = build(net("y = Relu(x)", "float[3, 4] x", "float[3, 4] y"), {}, golden=False)
    path = RUNTIME.compile(exported, DEVICE, tmp_path)
    beside(path).write_text(json.dumps(change(json.loads(beside(path).read_text()))))
    with pytest.raises(RunError, match=r"expected TensorRT to open model\.engine, got: .*; compile it again"):
        RUNTIME.open(path, DEVICE)
