import numpy as np
import pytest

AXES = np.array([2, 3])


@pytest.mark.parametrize(
    ("body", "weights", "opset", "after"),
    [
        ("y = ReduceMean<keepdims=1>(x, k)", {"k": AXES}, 20, ["GlobalAveragePool"]),
        ("y = ReduceMean(x, k)", {"k": np.array([-1, -2])}, 20, ["GlobalAveragePool"]),
        ("y = ReduceMean<keepdims=0>(x, k)", {"k": AXES}, 20, ["GlobalAveragePool", "Flatten"]),
        ("y = ReduceMean<axes=[2, 3]>(x)", {}, 17, ["GlobalAveragePool"]),
        (
            "m = ReduceMean<axes=[-1, 2], keepdims=0>(x) y = Relu(m)",
            {},
            17,
            ["GlobalAveragePool", "Flatten", "Relu"],
        ),
    ],
)
def test_a_mean_over_all_pixels_is_a_pool(apply, body, weights, opset, after) -> None:
    found = apply("mean_to_pool", body, x="batch, 4, 6, 5", opset=opset, **weights)
    assert next(iter(found.before.graph)).op_type == "ReduceMean"
    assert found.operators == after
    assert found.exported.history[-1].changed == 1
    assert found.after.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("body", "weights", "x"),
    [
        ("y = ReduceMean(x, k)", {"k": np.array([1, 2])}, "batch, 4, 6, 5"),
        ("y = ReduceMean(x, k)", {"k": np.array([3])}, "batch, 4, 6, 5"),
        ("y = ReduceMean(x)", {}, "batch, 4, 6, 5"),
        ("y = ReduceMean(x, k)", {"k": np.array([1, 2])}, "batch, 4, 6"),
        ("y = ReduceMax(x, k)", {"k": AXES}, "batch, 4, 6, 5"),
    ],
)
def test_other_means_are_not_meant(apply, body, weights, x) -> None:
    found = apply("mean_to_pool", body, x=x, **weights)
    assert found.exported.history[-1].changed == 0
    assert "GlobalAveragePool" not in found.operators


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("s = Shape<start=0, end=1>(x) j = Min(s, two) y = ReduceMean(x, j)", "not known ahead of time"),
        ("h = Cast<to=11>(x) m = ReduceMean(h, k) y = Cast<to=1>(m)", "only certain to exist in FLOAT"),
    ],
)
def test_a_mean_that_stays_says_why(apply, body, reason) -> None:
    y = "float[a, b, c, d] y"
    found = apply("mean_to_pool", body, x="batch, 4, 6, 5", y=y, k=AXES, two=np.array([2]))
    assert "ReduceMean" in found.operators
    assert reason in found.reasons
