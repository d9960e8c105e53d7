import onnx_ir as ir
import pytest

SCAN = """last, y = Scan<num_scan_inputs = 1, body = step (float[2, 4] h, float[2, 4] s)
    => (float[2, 4] o, float[2, 4] t) {{ {} }}>(g, x)"""
STEP = "e = Exp(s) m = Mul(h, e) o = Add(m, s) t = Sub(o, e)"


def lengths(model: ir.Model) -> tuple[int, int]:
    """Number of iterations, and of steps in each."""
    (scan,) = (node for node in model.graph if node.op_type == "Scan")
    groups, (body,) = scan.inputs[1].shape, [scan.attributes["body"].as_graph()]
    return groups[0], sum(node.op_type == "Exp" for node in body)


@pytest.mark.parametrize(
    ("length", "expected"), [(28, (2, 14)), (16, (1, 16)), (6, (1, 6)), (34, (17, 2)), (51, (17, 3))]
)
def test_as_many_steps_are_grouped_as_divide_the_length(apply, length, expected) -> None:
    found = apply(
        "unroll_scan", SCAN.format(STEP), x=f"{length}, 2, 4", y=f"float[{length}, 2, 4] y", g=(2, 4)
    )
    assert lengths(found.after) == expected
    assert found.exported.history[-1].changed == 1


def test_one_free_size_stays_free(apply) -> None:
    body = SCAN.replace("2, 4", "b, 4").format(STEP).replace("(g, x)", "(z, x)")
    body = "i = Constant<value_int = 0>() f = Gather<axis = 0>(x, i) z = Sub(f, f) " + body
    found = apply("unroll_scan", body, x="12, batch, 4", y="float[12, batch, 4] y")
    assert lengths(found.after) == (1, 12)
    assert found.after.graph.outputs[0].shape == ir.Shape([12, "batch", 4])


def test_two_states_and_their_last_values_stay(apply) -> None:
    body = """p, q, r, s = Scan<num_scan_inputs = 2,
        body = step (float[2, 4] h, float[2, 4] k, float[2, 4] a, float[2, 4] b)
        => (float[2, 4] n, float[2, 4] o, float[2, 4] c, float[2, 4] d)
        { m = Mul(h, w) n = Add(m, a) o = Max(k, b) c = Mul(n, o) d = Neg(o) }>(g, g, x, x)
        u = Mul(r, s) v = Mul(p, q) y = Add(u, v)"""
    found = apply("unroll_scan", body, x="6, 2, 4", y="float[6, 2, 4] y", g=(2, 4), w=(2, 4))
    assert found.exported.history[-1].changed == 1


@pytest.mark.parametrize(
    ("length", "attribute", "step", "reason"),
    [
        ("17", "", STEP, "its length has no divisor between 2 and 16"),
        ("batch", "", STEP, "its length has no divisor between 2 and 16"),
        ("6", "scan_input_directions = [1],", STEP, "it scans backwards"),
        ("6", "scan_output_directions = [1],", STEP, "it scans backwards"),
        ("6", "", "o = Add(h, s) t = Identity(o)", None),
    ],
)
def test_other_scans_stay_with_a_reason(apply, length, attribute, step, reason) -> None:
    body = SCAN.format(step).replace("body =", f"{attribute} body =")
    found = apply("unroll_scan", body, x=f"{length}, 2, 4", y=f"float[{length}, 2, 4] y", g=(2, 4))
    assert found.exported.history[-1].changed == (reason is None)
    assert (reason or "") in found.reasons


def test_a_body_that_hands_an_input_on_stays(apply) -> None:
    body = SCAN.replace("float[2, 4] o, float", "float[2, 4] o, float").replace("t) {{", "o) {{")
    found = apply("unroll_scan", body.format("o = Add(h, s)"), x="6, 2, 4", y="float[6, 2, 4] y", g=(2, 4))
    assert found.exported.history[-1].changed == 0
    assert "gives one value twice" in found.reasons
