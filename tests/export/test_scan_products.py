import onnx_ir as ir
import pytest

SCAN = """last, s = Scan<num_scan_inputs = 2, body = step
    (float[2, 3, 4] h, float[2, 3, 4] x, float[2, 3, 1] c) => (float[2, 3, 4] o, float[2, 4] t)
    {{ {} }}>(g, x, {})
    y = Neg(s)"""
BODY = "m = Mul(h, x) o = Add(m, x) p = Mul(o, c) t = ReduceSum<keepdims = 0>(p, axis)"
SIZES = {"x": "5, 2, 3, 4", "y": "float[5, 2, 4] y", "g": (2, 3, 4), "c": (5, 2, 3, 1)}


def inside(model: ir.Model) -> list[str]:
    (scan,) = (node for node in model.graph if node.op_type == "Scan")
    return [node.op_type for node in scan.attributes["body"].as_graph()]


@pytest.mark.parametrize("axis", [-2, 1])
@pytest.mark.parametrize("product", ["Mul(o, c)", "Mul(c, o)"])
def test_a_sum_over_states_is_a_product(apply, product, axis) -> None:
    body = SCAN.format(BODY.replace("Mul(o, c)", product), "c")
    found = apply("scan_products", body, axis=[axis], **SIZES)
    assert inside(found.after) == ["Mul", "Add", "MatMul"]
    assert found.operators == ["Transpose", "Scan", "Squeeze", "Neg"]


def test_its_steps_can_still_be_grouped(apply) -> None:
    found = apply("scan_products unroll_scan", SCAN.format(BODY, "c"), axis=[-2], **SIZES)
    assert inside(found.after).count("MatMul") == 5


@pytest.mark.parametrize(
    ("change", "axis", "reason"),
    [
        (("o, c", "o, c"), -1, "its sum is over other axes"),
        (("keepdims = 0", "keepdims = 0"), 0, "its sum is over other axes"),
        (("Mul(o, c)", "Mul(o, o)"), -2, "not of a product of a state and a slice"),
        (("Mul(o, c)", "Mul(o, x)"), -2, "not one number for each state"),
        (("Add(m, x)", "Add(m, c)"), -2, "read elsewhere too"),
    ],
)
def test_other_sums_stay_with_a_reason(apply, change, axis, reason) -> None:
    sizes = dict(SIZES)
    body = SCAN.format(BODY.replace(*change), "c")
    if axis != -2:
        shape = [2, 3, 4]
        del shape[axis]
        body = body.replace("float[2, 4] t", f"float[{shape[0]}, {shape[1]}] t")
        sizes["y"] = f"float[5, {shape[0]}, {shape[1]}] y"
    found = apply("scan_products", body, axis=[axis], **sizes)
    assert inside(found.after) == inside(found.before)
    assert reason in found.reasons


def test_an_answer_of_the_network_itself_keeps_its_name_and_shape(apply) -> None:
    body = SCAN.format(BODY, "c").replace("last, s =", "last, y =").replace("y = Neg(s)", "")
    found = apply("scan_products", body, axis=[-2], **SIZES)
    assert found.operators == ["Transpose", "Scan", "Squeeze"]
    (output,) = found.after.graph.outputs
    assert (output.name, output.shape) == ("y", ir.Shape([5, 2, 4]))


def test_bodies_without_such_a_sum_are_none_of_its_business(apply) -> None:
    body = SCAN.format("o = Add(h, x) p = Mul(o, c) t = ReduceMax<keepdims = 0>(p, axis)", "c")
    found = apply("scan_products", body, axis=[-2], **SIZES)
    assert found.exported.history[-1].changed == 0
    assert not found.reasons
