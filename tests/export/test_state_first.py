import onnx_ir as ir
import pytest

SCAN = """last, y = Scan<num_scan_inputs = 1, body = step (float[2, 4] h, float[2, 4] s)
    => (float[2, 4] o, float[2, 4] oo) {{ {} oo = Identity(o) }}>(g, x)"""


def operands(model: ir.Model, operator: str) -> list[list[str]]:
    nodes = [node for graph in model.graphs() for node in graph]
    return [[value.name for value in node.inputs] for node in nodes if node.op_type == operator]


@pytest.mark.parametrize(
    ("body", "operator", "before", "after"),
    [
        ("m = Mul(s, h) o = Add(m, s)", "Mul", ["s", "h"], ["h", "s"]),
        ("m = Add(s, h) o = Mul(m, s)", "Add", ["s", "h"], ["h", "s"]),
        ("o = Max(s, h)", "Max", ["s", "h"], ["h", "s"]),
        ("o = Sum(s, s, h)", "Sum", ["s", "s", "h"], ["h", "s", "s"]),
        ("i = Identity(h) o = Min(s, i)", "Min", ["s", "i"], ["i", "s"]),
        ("k = Constant<value_ints=[2, 4]>() r = Reshape(h, k) o = Mul(s, r)", "Mul", ["s", "r"], ["r", "s"]),
    ],
)
def test_the_state_comes_first(apply, body, operator, before, after) -> None:
    found = apply("state_first", SCAN.format(body), x="5, 2, 4", y="float[5, 2, 4] y", g=(2, 4))
    assert operands(found.before, operator) == [before]
    assert operands(found.after, operator) == [after]
    assert found.exported.history[-1].changed == 1


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(h, s) o = Add(m, s)",
        "o = Mul(h, h)",
        # What was computed from the state is not the state.
        "e = Exp(h) o = Mul(s, e)",
        "o = Sub(s, h)",
    ],
)
def test_other_bodies_stay(apply, body) -> None:
    found = apply("state_first", SCAN.format(body), x="5, 2, 4", y="float[5, 2, 4] y", g=(2, 4))
    assert found.exported.history[-1].changed == 0
    assert not found.reasons


def test_an_operator_that_is_not_commutative_says_why(apply) -> None:
    body = SCAN.format("o = PRelu(s, h)")
    found = apply("state_first", body, x="5, 2, 4", y="float[5, 2, 4] y", g=(2, 4))
    assert operands(found.after, "PRelu") == [["s", "h"]]
    assert "PRelu takes the state as a later input and is not commutative" in found.reasons


def test_a_scan_inside_a_branch_is_found(apply) -> None:
    inner = SCAN.format("o = Mul(s, h)").replace("last, y", "last, p")
    body = f"""r = ReduceMax<keepdims=0>(x) c = Cast<to=9>(r)
    y = If(c) <then_branch = a () => (float[5, 2, 4] p) {{ {inner} }},
               else_branch = b () => (float[5, 2, 4] n) {{ n = Neg(x) }}>"""
    found = apply("state_first", body, x="5, 2, 4", y="float[5, 2, 4] y", g=(2, 4))
    assert operands(found.after, "Mul") == [["h", "s"]]
