"""Small networks written by hand, with random weights, and pictures made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from fourfold.calibration.ranges import DataSource
from fourfold.calibration.samples import Samples, open_samples
from fourfold.export.artifact import Exported, Golden
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

Weights = Callable[..., np.ndarray]


def network(
    text: str, weights: dict[str, np.ndarray], inputs: tuple[TensorSpec, ...], *, batch: int = 2
) -> Exported:
    """Read a graph in ONNX's text form, with its weights, as an Exported value."""
    model = ir.from_onnx_text(text)
    for name, array in weights.items():
        tensor = ir.tensor(array, name=name)
        value = next(v for n in model.graph for v in n.inputs if v is not None and v.name == name)
        value.const_value = tensor
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
        model.graph.register_initializer(value)
    outputs = tuple(TensorSpec(str(o.name), ("batch",)) for o in model.graph.outputs)
    rng = np.random.default_rng(11)
    feed = {s.name: rng.standard_normal(s.concrete(batch=batch)).astype(s.dtype) for s in inputs}
    return Exported("net", model, inputs, outputs, Golden(feed, evaluate(model)(feed)))


def normal(seed: int, *shape: int, scale: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def samples_of(exported: Exported, tmp_path: Path, *, count: int = 24, seed: int = 5) -> Samples:
    """Store random samples as an .npz and open them."""
    rng = np.random.default_rng(seed)
    arrays = {
        s.name: rng.standard_normal((count, *s.concrete(batch=1)[1:])).astype(s.dtype)
        for s in exported.inputs
    }
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    return open_samples(path, exported.inputs, None, limit=None)


CONVNET = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,3,16,16] x) => (float[batch,5] y) {
    a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
    ar = Relu (a)
    b = Conv <pads = [1,1,1,1], group = 8> (ar, w2, b2)
    br = Relu (b)
    c = Conv (br, w3, b3)
    d = Add (ar, c)
    dr = Relu (d)
    p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (dr)
    g = GlobalAveragePool (p)
    f = Flatten (g)
    y = Gemm <transB = 1> (f, w4, b4)
}
"""

ATTENTION = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,12,32] x) => (float[batch,12,32] y) {
    n = LayerNormalization (x, g1, c1)
    q = MatMul (n, wq)
    k = MatMul (n, wk)
    v = MatMul (n, wv)
    kt = Transpose <perm = [0,2,1]> (k)
    s = MatMul (q, kt)
    p = Softmax <axis = -1> (s)
    o = MatMul (p, v)
    z = MatMul (o, wo)
    y = Add (x, z)
}
"""


@pytest.fixture(scope="session")
def convnet() -> Exported:
    """A residual network with a depthwise convolution, of shape (batch, 3, 16, 16)."""
    channels = np.linspace(0.3, 3.0, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    weights = {
        "w1": normal(1, 8, 3, 3, 3) * channels,
        "b1": normal(2, 8),
        "w2": normal(3, 8, 1, 3, 3) * channels,
        "b2": normal(4, 8),
        "w3": normal(5, 8, 8, 1, 1),
        "b3": normal(6, 8),
        "w4": normal(7, 5, 8),
        "b4": normal(8, 5),
    }
    return network(CONVNET, weights, (TensorSpec("x", ("batch", 3, 16, 16)),))


@pytest.fixture(scope="session")
def attention() -> Exported:
    """One attention block without heads, of shape (batch, 12, 32)."""
    weights = {name: normal(i, 32, 32, scale=0.25) for i, name in enumerate(("wq", "wk", "wv", "wo"))}
    weights |= {"g1": 1 + normal(9, 32), "c1": normal(10, 32)}
    return network(ATTENTION, weights, (TensorSpec("x", ("batch", 12, 32)),))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two class folders of six small pictures each."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


REAL = DataSource("test", "real", 1, "0" * 64)
