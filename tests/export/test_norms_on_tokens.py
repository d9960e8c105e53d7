import onnx_ir as ir
import pytest

RULES = "norms_on_tokens merge_transposes tidy"
VIEW = "Transpose<perm=[0,2,3,1]>"
MAP = "Transpose<perm=[0,3,1,2]>"
WEIGHTS = {"w": (5, 4, 1, 1), "k": (4, 5, 1, 1), "g": (4,), "b": (4,)}


def norms(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "LayerNormalization"]


def test_a_norm_of_a_map_gets_three_axes(apply) -> None:
    body = f"t = {VIEW}(x) n = LayerNormalization<axis=-1, epsilon=0.25>(t, g, b) y = {MAP}(n)"
    found = apply(RULES, body, x="batch, 4, 6, 3", **WEIGHTS)
    (norm,) = norms(found.after)
    assert list(norm.inputs[0].shape)[1:] == [18, 4]
    assert norm.attributes.get_float("epsilon") == 0.25
    assert found.exported.history[0].changed == 1


def test_residual_sums_join_the_norms_and_the_layout_between_them_cancels(apply) -> None:
    branch = "p{i} = Conv({m}, w) q{i} = Relu(p{i}) r{i} = Conv(q{i}, k)"
    body = " ".join(
        [
            f"t0 = {VIEW}(x) n0 = LayerNormalization<axis=3>(t0, g, b) m0 = {MAP}(n0)",
            branch.format(i=0, m="m0"),
            f"s0 = Add(x, r0) t1 = {VIEW}(s0) n1 = LayerNormalization<axis=-1>(t1, g) m1 = {MAP}(n1)",
            branch.format(i=1, m="m1"),
            f"s1 = Add(s0, r1) t2 = {VIEW}(s1) y = LayerNormalization<axis=-1>(t2, g, b)",
        ]
    )
    found = apply(RULES, body, x="batch, 4, 6, 3", **WEIGHTS)
    sums = [node for node in found.after.graph if node.op_type == "Add"]
    assert [len(node.inputs[0].shape) for node in sums] == [3, 3]
    # The running sum itself is handed from Add to Add without a Transpose between.
    assert sums[1].inputs[0].producer() is sums[0]
    assert all(norm.inputs[0].producer() in sums for norm in norms(found.after)[1:])
    into_branches, out_of_branches, into_first = 2, 2, 1
    assert found.operators.count("Transpose") == into_branches + out_of_branches + into_first


@pytest.mark.parametrize(
    "body",
    [
        # A sum with a bias stays where it is: only the norm moves.
        f"s = Add(x, b4) t = {VIEW}(s) y = LayerNormalization(t, g, b)",
        # So does a sum that reaches the norm in another order.
        "s = Add(x, x) t = Transpose<perm=[0,3,2,1]>(s) y = LayerNormalization(t, g, b)",
    ],
)
def test_a_sum_that_is_no_residual_stays(apply, body) -> None:
    found = apply("norms_on_tokens", body, x="batch, 4, 6, 3", b4=(4, 1, 1), **WEIGHTS)
    (total,) = [node for node in found.after.graph if node.op_type == "Add"]
    assert len(total.outputs[0].shape) == 4
    assert len(norms(found.after)[0].inputs[0].shape) == 3


@pytest.mark.parametrize(
    ("body", "x"),
    [
        ("y = LayerNormalization(x, g, b)", "batch, 18, 4"),
        ("y = LayerNormalization<axis=2>(x, g2, b2)", "batch, 6, 3, 4"),
        ("y, mean = LayerNormalization(x, g, b) z = Relu(mean)", "batch, 6, 3, 4"),
    ],
)
def test_other_norms_are_not_meant(apply, body, x) -> None:
    found = apply("norms_on_tokens", body, x=x, g2=(3, 4), b2=(3, 4), **WEIGHTS)
    assert found.exported.history[0].changed == 0
    assert [node.op_type for node in found.before.graph] == found.operators


def test_a_map_of_unknown_size_is_left_with_a_reason(apply) -> None:
    found = apply("norms_on_tokens", "y = LayerNormalization(x, g, b)", x="batch, height, 3, 4", **WEIGHTS)
    assert found.exported.history[0].changed == 0
    assert "not known ahead of time" in found.reasons
