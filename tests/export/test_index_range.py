import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fourfold.export.index_range import upper_bound
from fourfold.export.load_onnx import load_onnx
from fourfold.runtimes.reference import evaluate

TABLE = "<float[9, 4] table = {" + ", ".join(map(str, range(36))) + "}>"


def graph(body: str, *, ids: str = "int64[N, 6]", constants: str = TABLE) -> onnx.ModelProto:
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    net ({ids} ids, float[2, 3, 7] x) => (float y) {constants} {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def bound(body: str, **more: str) -> int | None:
    return upper_bound(ir.from_proto(graph(body, **more)).graph.inputs[0])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Gather(table, ids)", 9),
        ("y = Gather<axis=1>(table, ids)", 4),
        ("y = Gather<axis=-1>(table, ids)", 4),
        # A table that a run computes has a length all the same.
        ("y = Gather<axis=2>(x, ids)", 7),
        ("c = Cast<to=6>(ids) k = Constant<value_ints=[-1]>() r = Reshape(c, k) y = Gather(table, r)", 9),
        ("t = Identity(table) i = Transpose<perm=[1,0]>(ids) y = Gather(t, i)", 9),
        ("a = Gather(table, ids) b = Gather<axis=1>(table, ids) c = ReduceSum(b) y = Add(a, c)", 4),
        (
            "d = Constant<value_int=30>() v = Constant<value_floats=[0.0, 1.0]>() "
            "y = OneHot<axis=-1>(ids, d, v)",
            30,
        ),
        (
            "k = Constant<value_ints=[-1]>() c = Constant<value_ints=[0, 1, 2, 3, 4]>() "
            "u = Unsqueeze(ids, k) e = Equal(c, u) y = Cast<to=1>(e)",
            5,
        ),
    ],
)
def test_a_use_as_an_index_bounds_the_input(body: str, expected: int) -> None:
    assert bound(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = Cast<to=1>(ids)",
        # A comparison with one number, such as that of a padding, bounds nothing; nor do any other numbers.
        "k = Constant<value_ints=[3]>() e = Equal(ids, k) y = Cast<to=1>(e)",
        "k = Constant<value_ints=[3, 9, 1, 0, 2, 8]>() e = Equal(ids, k) y = Cast<to=1>(e)",
        # Values that arithmetic changed are not the input's.
        "s = Add(ids, ids) y = Gather(table, s)",
        # The input is the table, not the index.
        "k = Constant<value_ints=[0]>() g = Gather(ids, k) y = Cast<to=1>(g)",
    ],
)
def test_other_uses_bound_nothing(body: str) -> None:
    assert bound(body) is None


def test_floats_have_no_bound_and_a_small_type_bounds_itself() -> None:
    model = ir.from_proto(graph("y = Gather(table, ids)"))
    assert upper_bound(model.graph.inputs[1]) is None
    one_hot = "c = Cast<to=7>(ids) d = Constant<value_int=300>() v = Constant<value_floats=[0.0, 1.0]>()"
    assert bound(f"{one_hot} y = OneHot(c, d, v)", ids="int8[N, 6]") == 128


def test_a_use_inside_a_branch_counts() -> None:
    body = """c = Constant<value_int=1>() b = Cast<to=9>(c)
    y = If(b) <then_branch = yes () => (float[N, 6, 4] p) { p = Gather(table, ids) },
               else_branch = no () => (float[N, 6, 4] q) { g = Gather(table, ids) q = Neg(g) }>"""
    assert bound(body) == 9


def test_a_loaded_file_is_fed_its_whole_vocabulary(tmp_path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(graph("g = Gather(table, ids) s = ReduceSum(x) y = Add(g, s)", ids="int64[N, 60]"), path)
    exported = load_onnx(path, opset=20, evaluate=evaluate)
    assert exported.inputs[0].high == 9
    assert set(np.unique(exported.golden.inputs["ids"])) == set(range(9))
