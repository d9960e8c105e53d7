import logging
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fourfold.errors import BuildError, UsageError
from fourfold.export import untrusted
from fourfold.export.load_onnx import load_onnx, read_inputs
from fourfold.runtimes.reference import evaluate

RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal((4, 5)).astype(np.float32)


def model(nodes=None, *, x=("N", 4), weights=None, opset=20, y=("N", 5), imports=(), functions=()):
    graph = helper.make_graph(
        nodes if nodes is not None else [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        weights if weights is not None else [numpy_helper.from_array(W, "w")],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in imports)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def external(folder: Path, location: str, **entries: object) -> onnx.ModelProto:
    proto = model()
    weights = proto.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=str(value))
    return proto


def load(tmp_path: Path, proto: onnx.ModelProto | bytes, opset: int = 20):
    path = tmp_path / "net.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return load_onnx(path, opset=opset, evaluate=evaluate)


def test_a_graph_keeps_its_answers_and_its_free_batch(tmp_path: Path) -> None:
    exported = load(tmp_path, model())
    assert exported.inputs[0].shape == ("batch", 4)
    assert exported.outputs[0].shape == ("batch", 5)
    x = exported.golden.inputs["x"]
    np.testing.assert_allclose(exported.golden.outputs["y"], x @ W, rtol=1e-5, atol=1e-6)
    assert exported.name == "net"


def test_an_old_opset_is_converted_and_proven(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["h"], ["s"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["h", "s"], ["y"]),
    ]
    exported = load(tmp_path, model(nodes, opset=11), opset=21)
    assert exported.model.opset_imports[""] == 21
    assert [p.batch for p in exported.history[0].parity] == [1, 3]


def test_a_newer_opset_is_kept_and_says_why(tmp_path: Path) -> None:
    exported = load(tmp_path, model(opset=22), opset=20)
    assert exported.model.opset_imports[""] == 22
    assert "only conversions upwards" in exported.history[0].refusals[0].reason


def test_a_fixed_batch_is_kept_and_says_why(tmp_path: Path) -> None:
    exported = load(tmp_path, model(x=(2, 4), y=(2, 5)))
    assert exported.inputs[0].shape == (2, 4)
    assert exported.history[0].refusals[0].where == "batch"


def test_a_graph_that_only_runs_with_batch_one_is_fixed_to_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    shape = numpy_helper.from_array(np.array([1, 4]), "shape")
    exported = load(tmp_path, model(nodes, weights=[numpy_helper.from_array(W, "w"), shape], y=(1, 5)))
    assert exported.inputs[0].shape == (1, 4)
    assert "fixed at 1" in exported.history[0].refusals[0].reason


def test_external_data_beside_the_file_is_taken_in(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"pad." + W.tobytes())
    exported = load(tmp_path, external(tmp_path, "weights.bin", offset=4, length=W.nbytes))
    x = exported.golden.inputs["x"]
    np.testing.assert_allclose(exported.golden.outputs["y"], x @ W, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        ("/etc/hostname", {}, "inside the folder"),
        ("../secret.bin", {}, "inside the folder"),
        ("sub/../../secret.bin", {}, "inside the folder"),
        ("C:\\secret.bin", {}, "inside the folder"),
        ("", {}, "inside the folder"),
        ("link.bin", {}, "inside the folder"),
        ("missing.bin", {}, "no such file"),
        ("weights.bin", {"offset": 8}, "80 bytes of external data"),
        ("weights.bin", {"offset": -4, "length": 80}, "80 bytes of external data"),
        ("weights.bin", {"offset": 2**62, "length": 80}, "80 bytes of external data"),
        ("weights.bin", {"length": 40}, "80 bytes of external data"),
        ("weights.bin", {"offset": "four"}, "numbers for offset"),
    ],
)
def test_external_data_that_is_not_what_it_says(tmp_path: Path, location, entries, message) -> None:
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(W.tobytes())
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    with pytest.raises(BuildError, match=message):
        load(folder, external(folder, location, **entries))


def declared(dims, data: bytes = b"", kind: int = TensorProto.FLOAT) -> TensorProto:
    return TensorProto(dims=dims, data_type=kind, name="w", raw_data=data)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (declared([4, 2**40]), "at most 268435456 values"),
        (declared([2**33, 2**33]), "at most 268435456 values"),
        (declared([4, -5]), "sizes of zero or more"),
        (declared([4, 5], b"1234"), "80 bytes for shape"),
        (declared([4, 5], W.tobytes() + b"1234"), "80 bytes for shape"),
        (declared([4, 5], W.tobytes(), 999), "known data type"),
        (TensorProto(dims=[4, 5], data_type=1, name="w", float_data=[1.0]), "20 values for shape"),
    ],
)
def test_weights_that_are_not_what_they_say(tmp_path: Path, weights: TensorProto, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        load(tmp_path, model(weights=[weights]))


def test_a_constant_inside_a_branch_is_checked_too(tmp_path: Path) -> None:
    def branch(dims):
        node = helper.make_node("Constant", [], ["c"], value=declared(dims, W.tobytes()))
        return helper.make_graph([node], "b", [], [helper.make_tensor_value_info("c", 1, dims)])

    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch([4, 5]), else_branch=branch([4, 500]))]
    yes = numpy_helper.from_array(np.array(True), "yes")
    with pytest.raises(BuildError, match="8000 bytes for shape"):
        load(tmp_path, model(nodes, weights=[yes], y=(4, None)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "between 1 and"),
        (b"PK\x03\x04 this is a zip", "an ONNX file"),
        (model().SerializeToString()[:-40], "net.onnx: expected"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "without a graph"),
    ],
)
def test_files_that_are_not_a_whole_onnx_file(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        load(tmp_path, data)


def test_every_truncation_is_one_sentence(tmp_path: Path) -> None:
    whole = model().SerializeToString()
    for end in range(1, len(whole), 7):
        with pytest.raises(BuildError) as caught:
            load(tmp_path, whole[:end])
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_newer_ir(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no such file"):
        load_onnx(tmp_path / "none.onnx", opset=20, evaluate=evaluate)
    proto = model()
    proto.ir_version = 999
    with pytest.raises(BuildError, match="IR version"):
        load(tmp_path, proto)


def test_operators_of_one_engine_are_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")]
    with pytest.raises(BuildError, match=r"com\.microsoft\.FusedMatMul"):
        load(tmp_path, model(nodes, imports=("com.microsoft",)))


def _doubling(depth: int, first: str) -> list[onnx.FunctionProto]:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    bodies = [("f0", [helper.make_node("Relu", ["a"], ["b"])])] if first == "Relu" else []
    for i in range(1, depth):
        call = helper.make_node(f"f{i - 1}" if i > 1 or bodies else first, ["a"], ["m"], domain="f")
        again = helper.make_node(call.op_type, ["m"], ["b"], domain="f")
        bodies.append((f"f{i}", [call, again]))
    return [helper.make_function("f", name, ["a"], ["b"], nodes, opsets) for name, nodes in bodies]


@pytest.mark.parametrize(("first", "message"), [("Relu", "at most 100000 nodes"), ("f39", "calls itself")])
def test_functions_that_explode_or_never_end(tmp_path: Path, first: str, message: str) -> None:
    nodes = [helper.make_node("f39", ["x"], ["y"], domain="f")]
    functions = _doubling(40, first)
    with pytest.raises(BuildError, match=message):
        load(tmp_path, model(nodes, imports=("f",), functions=functions, y=("N", 4)))


def test_absurd_sizes_inside_the_graph(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([2**20, 2**20]), "w")
    nodes = [
        helper.make_node("ConstantOfShape", ["w"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    with pytest.raises(BuildError, match="at most 268435456 values"):
        load(tmp_path, model(nodes, weights=[shape], y=("N", 4)))
    with pytest.raises(BuildError, match="at most 268435456 values"):
        load(tmp_path, model(x=(2**20, 2**20, 4), y=(2**20, 2**20, 5)))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    for _ in range(untrusted.MAX_DEPTH + 1):
        out = [helper.make_tensor_value_info("y", 1, None)]
        inner = helper.make_graph([node], "g", [], out)
        node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    yes = numpy_helper.from_array(np.array(True), "yes")
    with pytest.raises(BuildError, match="graphs inside each other"):
        load(tmp_path, model([node], weights=[yes], y=("N", 4)))


def test_a_graph_that_cannot_run_says_so(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    shape = numpy_helper.from_array(np.array([3, 4]), "shape")
    with pytest.raises(BuildError, match=r"expected a graph that runs on x \(1, 4\)"):
        load(tmp_path, model(nodes, weights=[numpy_helper.from_array(W, "w"), shape], y=(3, 5)))


def test_networks_of_another_package_load() -> None:
    light = Path(onnx.__file__).parent / "backend/test/data/light/light_shufflenet.onnx"
    exported = load_onnx(light, opset=20, evaluate=evaluate)
    assert exported.model.opset_imports[""] == 20
    assert exported.history[0].parity


def test_nothing_is_said_on_the_way(tmp_path: Path, capfd, monkeypatch) -> None:
    # Without handlers, logging falls back to printing warnings to stderr.
    monkeypatch.setattr(logging.root, "handlers", [])
    low = numpy_helper.from_array(W[0, 0], "w")
    clip = helper.make_node("Clip", ["x", "w"], ["y"])
    assert (
        load(tmp_path, model([clip], weights=[low], opset=11, y=("N", 4)), 21).model.opset_imports[""] == 21
    )
    pad = helper.make_node("Pad", ["x", "w"], ["y"], mode=b"\xff\xfe")
    none = numpy_helper.from_array(np.zeros(4, np.int64), "w")
    with pytest.raises(BuildError):
        load(tmp_path, model([pad], weights=[none], y=("N", 4)))
    assert capfd.readouterr() == ("", "")


def quantized(nodes: str) -> onnx.ModelProto:
    text = f"""<ir_version: 10, opset_import: ["": 20]> net (float[N, 4] x) => (float[N, 4] y)
    <float s = {{0.1}}, uint8 z = {{3}}, uint8[4, 4] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6}}>
    {{ {nodes} }}"""
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", "DequantizeLinear, QuantizeLinear"),
        ("d = DequantizeLinear(w, s, z) y = MatMul(x, d)", "DequantizeLinear"),
        (
            "q, t, o = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, o, z) y = Cast<to=1>(i)",
            "DynamicQuantizeLinear, MatMulInteger",
        ),
        (
            "c = Cast<to=2>(x) m = QLinearMatMul(c, s, z, w, s, z, s, z) y = Cast<to=1>(m)",
            "QLinearMatMul",
        ),
        (
            "r = ReduceMax<keepdims=0>(x) c = Cast<to=9>(r) y = If(c) <then_branch = a () => (float[N, 4] p) "
            "{ q = QuantizeLinear(x, s, z) p = Cast<to=1>(q) }, "
            "else_branch = b () => (float[N, 4] n) { n = Neg(x) }>",
            "QuantizeLinear",
        ),
    ],
)
def test_an_already_quantized_file_is_refused(tmp_path: Path, nodes: str, found: str) -> None:
    with pytest.raises(BuildError, match=rf"already quantized \({found}\); give the float file"):
        load(tmp_path, quantized(nodes))
    with pytest.raises(BuildError, match="already quantized"):
        read_inputs(tmp_path / "net.onnx")


CROPS = [
    helper.make_node("Slice", ["x", "start", "stop", "axis"], ["crop"]),
    helper.make_node("Mul", ["crop", "w"], ["y"]),
]
CROP = [numpy_helper.from_array(np.array([v]), n) for n, v in {"start": 0, "stop": 40, "axis": 2}.items()]


def crops(x=("N", 3, "h", "w0")) -> onnx.ModelProto:
    """A network that only runs on pictures of at least 40 rows."""
    weights = [*CROP, numpy_helper.from_array(RANDOM.standard_normal((40, 1)).astype(np.float32), "w")]
    return model(CROPS, x=x, weights=weights, y=(None, 3, None, None))


def test_free_sizes_are_fixed_and_the_batch_is_not(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(crops(), path)
    exported = load_onnx(path, opset=21, evaluate=evaluate, input_shape=(3, 48, 20))
    assert exported.inputs == read_inputs(path, (3, 48, 20))
    assert exported.inputs[0].shape == ("batch", 3, 48, 20)
    assert exported.outputs[0].shape == ("batch", 3, 40, 20)
    assert [p.batch for p in exported.history[0].parity] == [1, 3]
    assert exported.golden.inputs["x"].shape == (2, 3, 48, 20)


def test_a_fixed_batch_stays_beside_fixed_sizes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(crops(x=(1, 3, None, None)), path)
    assert read_inputs(path, (3, 48, 20))[0].shape == (1, 3, 48, 20)


@pytest.mark.parametrize(
    ("x", "shape", "message"),
    [
        (("N", 3, "h", "w0"), (1, 48, 20), r"expected an input shape like 3,h,w0, got 1,48,20; keep"),
        (("N", 3, "h", "w0"), (48, 20), r"like 3,h,w0, got 48,20"),
        (("N", 3, "h", "w0"), (2, 3, 48, 20), r"like 3,h,w0, got 2,3,48,20"),
        (("N", 3, "side", "side"), (3, 48, 20), r"like 3,side,side, got 3,48,20"),
        (("N", 3, "h", "w0"), (3, 2**20, 2**20), r"at most 268435456 values, got 3,1048576"),
    ],
)
def test_a_size_that_contradicts_the_file_is_refused(tmp_path: Path, x, shape, message) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(crops(x=x), path)
    for read in (read_inputs, lambda path, s: load_onnx(path, opset=20, evaluate=evaluate, input_shape=s)):
        with pytest.raises(UsageError, match=message):
            read(path, shape)


def test_an_input_shape_needs_a_single_input(tmp_path: Path) -> None:
    proto = model([helper.make_node("MatMul", ["x", "z"], ["y"])], weights=[])
    proto.graph.input.append(helper.make_tensor_value_info("z", 1, [4, 5]))
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="one input for an input shape, got x, z"):
        read_inputs(tmp_path / "net.onnx", (4,))


def test_a_graph_that_fails_at_the_trial_size_asks_for_a_shape(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"give --input-shape 3,h,w0 with sizes .* 'h' of x and 'w0' of x$"):
        load(tmp_path, crops())
    two = crops()
    two.graph.node.append(helper.make_node("Relu", ["z"], ["zz"]))
    two.graph.input.append(helper.make_tensor_value_info("z", 1, ["N", "other"]))
    with pytest.raises(BuildError, match=r"fixed sizes for 'h' of x and 'w0' of x and 'other' of z$"):
        load(tmp_path, two)


def test_unknown_sizes_stay_free(tmp_path: Path, capfd) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    exported = load(tmp_path, model(nodes, x=(-1, 3, "?", "w"), y=("a", "b", "c", "d"), opset=11))
    assert exported.inputs[0].shape == ("batch", 3, "x_2", "w")
    assert exported.outputs[0].shape[0] == "batch"
    assert all(isinstance(d, str) for d in exported.outputs[0].shape[2:])
    assert capfd.readouterr() == ("", "")
