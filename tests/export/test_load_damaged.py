"""Files that were cut off or hit by wrong bits load, or are refused in one sentence."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from fourfold.errors import FourfoldError
from fourfold.export.load_onnx import load_onnx
from fourfold.runtimes.reference import evaluate

DENSE = """<ir_version: 10, opset_import: ["": 20]> net (float[N, 4] x) => (float[N, 5] y)
{ h = MatMul(x, w) y = Relu(h) }"""

CONVOLUTION = """<ir_version: 8, opset_import: ["": 13]> net (float[N, 3, 8, 8] x) => (float[N, 4] y) {
  c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w) b = BatchNormalization(c, g, g, g, g) r = Relu(b)
  p = GlobalAveragePool(r) k = Constant<value_ints = [0, -1]>() y = Reshape(p, k)
}"""

TOKENS = """<ir_version: 10, opset_import: ["": 18, "f": 1]>
net (int64[N, 6] ids, bool c) => (float[N, 6, 4] y) {
  e = Gather(w, ids) z = f.Twice(e)
  y = If(c) <then_branch = a () => (float[N, 6, 4] p) { p = Neg(z) },
             else_branch = b () => (float[N, 6, 4] q) { q = Softmax<axis = -1>(z) }>
}
<domain: "f", opset_import: ["": 18]> Twice (u) => (v) { v = Add(u, u) }"""

WEIGHTS = {
    DENSE: {"w": (4, 5)},
    CONVOLUTION: {"w": (4, 3, 3, 3), "g": (4,)},
    TOKENS: {"w": (9, 4)},
}
CASES = 130


def written(text: str) -> bytes:
    proto, draw = parser.parse_model(text), np.random.default_rng(0)
    for name, shape in WEIGHTS[text].items():
        array = np.abs(draw.standard_normal(shape)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto.SerializeToString()


def damaged(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.2:
        return data[: draw.randrange(1, len(data))]
    broken = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 6))):
        place = draw.randrange(len(broken))
        broken[place] = draw.choice((0, 127, 255, broken[place] ^ (1 << draw.randrange(8))))
    return bytes(broken)


@pytest.mark.parametrize("text", [DENSE, CONVOLUTION, TOKENS])
def test_damage_loads_or_is_refused_in_one_sentence(text: str, tmp_path: Path, capfd) -> None:
    whole, path = written(text), tmp_path / "net.onnx"
    path.write_bytes(whole)
    load_onnx(path, opset=20, evaluate=evaluate)
    said: list[str] = []
    for seed in range(CASES):
        path.write_bytes(damaged(whole, random.Random(seed)))
        try:
            load_onnx(path, opset=20, evaluate=evaluate)
        except FourfoldError as error:
            said.append(str(error))
    assert 0 < len(said) < CASES
    assert not [sentence for sentence in said if "\n" in sentence]
    assert capfd.readouterr() == ("", "")


def refusal(path: Path, proto: onnx.ModelProto) -> str:
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(FourfoldError) as caught:
        load_onnx(path, opset=20, evaluate=evaluate)
    return str(caught.value)


def test_damage_that_the_checker_lets_pass_is_named(tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(written(TOKENS))
    proto.functions[0].opset_import[0].version = 22
    assert "expected a valid ONNX graph, got Opset mismatch" in refusal(tmp_path / "net.onnx", proto)
    proto = onnx.ModelProto.FromString(written(TOKENS))
    proto.graph.input[1].type.tensor_type.elem_type = 73
    assert "expected a valid ONNX graph, got 73 is not" in refusal(tmp_path / "net.onnx", proto)
