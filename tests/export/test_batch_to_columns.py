import pytest

IN = "a = Transpose<perm=[2, 3, 0, 1]>(x) "
CONV = "c = Conv<pads=[2, 0, 0, 0], group=4>(a, w) "
OUT = "y = Transpose<perm=[2, 3, 0, 1]>(c)"
SIZES = {"x": "6, 3, batch, 4", "y": "float[6, 3, batch, 4] y", "w": (4, 1, 3, 1)}


def test_images_of_a_batch_stand_side_by_side(apply) -> None:
    found = apply("batch_to_columns", IN + CONV + OUT, **SIZES)
    assert found.operators == ["Reshape", "Transpose", "Conv", "Transpose", "Reshape"]
    moves = [node.attributes.get_ints("perm") for node in found.after.graph if node.op_type == "Transpose"]
    assert moves == [(0, 3, 1, 2), (0, 2, 3, 1)]


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_may_become_fewer_and_channels_more(apply, batch) -> None:
    conv = "c = Conv<strides=[2, 1], group=4>(a, w) "
    sizes = {"x": f"6, 3, {batch}, 4", "y": f"float[2, 3, {batch}, 8] y", "w": (8, 1, 3, 1)}
    assert apply("batch_to_columns", IN + conv + OUT, **sizes).operators[0] == "Reshape"


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        (("", ""), {"w": (4, 1, 3, 3), "y": "float[6, 1, batch, 4] y"}, "its kernel reads other columns"),
        (("pads=[2, 0, 0, 0]", "pads=[2, 0, 0, 1]"), {"y": "float[6, 4, batch, 4] y"}, "it adds columns"),
        (("pads", "strides=[1, 2], pads"), {"y": "float[6, 2, batch, 4] y"}, "it adds columns or leaves"),
        (
            ("", ""),
            {"x": "batch, 3, 6, 4", "y": "float[batch, 3, 6, 4] y"},
            "more than the batch size is free",
        ),
    ],
)
def test_others_stay_with_a_reason(apply, change, more, reason) -> None:
    found = apply("batch_to_columns", IN + CONV.replace(*change) + OUT, **{**SIZES, **more})
    assert found.exported.history[-1].changed == 0
    assert reason in found.reasons


@pytest.mark.parametrize(
    "body",
    [
        CONV.replace("(a", "(x") + OUT,
        IN + CONV + "y = Transpose<perm=[0, 2, 3, 1]>(c)",
        IN + CONV + OUT.replace("y =", "z =") + " n = Neg(c) m = Neg(z) y = ReduceSum(n)",
    ],
)
def test_what_does_not_stand_between_two_moves_stays(apply, body) -> None:
    found = apply("batch_to_columns", body, x="6, 4, 5, 4", w=(4, 1, 3, 1))
    assert found.exported.history[-1].changed == 0
    assert not found.reasons
