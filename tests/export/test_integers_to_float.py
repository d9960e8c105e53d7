import numpy as np
import pytest

RULE = "integers_to_float"
BIAS = np.array([5, -70000, 123456789, 0, 3], np.int32)
BY_CHANNEL = {"s": np.array([1e-4, 3e-7, 2e-9, 0.1, 7.0], np.float32)}


@pytest.mark.parametrize(
    ("dequantize", "more"),
    [
        ("DequantizeLinear(c, s)", {"s": np.float32(0.013)}),
        ("DequantizeLinear<axis=0>(c, s)", BY_CHANNEL),
        ("DequantizeLinear<axis=0>(c, s, z)", BY_CHANNEL | {"z": np.zeros(5, np.int32)}),
    ],
)
def test_a_constant_is_restored_to_the_very_bits(apply, dequantize, more) -> None:
    body = f"b = {dequantize} y = Gemm(x, w, b)"
    found = apply(RULE, body, x="batch, 4", w=(4, 5), c=BIAS, **more)
    assert found.operators == ["Gemm"]
    scale = more["s"]
    np.testing.assert_array_equal(found.weights("c_float"), BIAS.astype(np.float32) * scale)


def test_integers_along_another_axis(apply) -> None:
    table = np.arange(15, dtype=np.int32).reshape(3, 5)
    body = "b = DequantizeLinear<axis=1>(c, s) y = Add(x, b)"
    found = apply(RULE, body, x="batch, 3, 5", c=table, **BY_CHANNEL)
    np.testing.assert_array_equal(found.weights("c_float"), table.astype(np.float32) * BY_CHANNEL["s"])


def test_eight_bits_stay_without_a_reason(apply) -> None:
    body = "b = DequantizeLinear(c, s) y = Add(x, b)"
    found = apply(RULE, body, x="batch, 5", c=np.ones(5, np.int8), s=np.float32(2))
    assert "DequantizeLinear" in found.operators
    assert not found.reasons


def test_integers_that_a_run_can_change_say_why(apply) -> None:
    body = "i = Cast<to=6>(x) y = DequantizeLinear(i, s)"
    found = apply(RULE, body, x="batch, 5", s=np.float32(2))
    assert "DequantizeLinear" in found.operators
    assert "not constant" in found.reasons
