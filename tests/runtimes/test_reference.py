"""The reference says what a graph says, and refuses with one sentence."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from fourfold.errors import BuildError
from fourfold.export.artifact import Exported
from fourfold.runtimes.reference import evaluate

NET = """<ir_version: 10, opset_import: ["": 20]>
tiny (float[batch, 4] x) => (float[batch, 2] y, float[batch, 4] z) {
  z = Relu(x)
  y = MatMul(z, w)
}"""


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_it_agrees_with_numpy(build: Callable[..., Exported], weights: np.ndarray, batch: int) -> None:
    x = np.random.default_rng(1).normal(size=(batch, 4)).astype(np.float32)
    exported = build(NET, {"x": x}, w=weights)
    answer = evaluate(exported.model)({"x": x})
    assert list(answer) == ["y", "z"]
    np.testing.assert_allclose(answer["z"], np.maximum(x, 0))
    np.testing.assert_allclose(answer["y"], np.maximum(x, 0) @ weights, rtol=1e-5, atol=1e-6)


def test_answers_are_fresh(build: Callable[..., Exported], weights: np.ndarray) -> None:
    x = np.ones((1, 4), np.float32)
    run = evaluate(build(NET, {"x": x}, w=weights).model)
    first, second = run({"x": x}), run({"x": x})
    assert not np.shares_memory(first["z"], second["z"])


def test_a_graph_that_is_not_valid_is_refused() -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> tiny (float[4] x) => (float[4] y) { y = Nonsense(x) }'
    with pytest.raises(BuildError, match=r"expected tiny to be valid ONNX, got: .*Nonsense"):
        evaluate(ir.from_proto(parser.parse_model(text)))


@pytest.mark.parametrize(
    "feed",
    [{}, {"w": np.ones((1, 4), np.float32)}, {"x": np.ones((1, 5), np.float32)}, {"x": np.ones((1, 4))}],
)
def test_inputs_that_do_not_fit_are_refused(
    build: Callable[..., Exported], weights: np.ndarray, feed: dict[str, np.ndarray]
) -> None:
    run = evaluate(build(NET, {"x": np.ones((1, 4), np.float32)}, w=weights).model)
    with pytest.raises(BuildError, match=r"expected tiny to evaluate, got: .+; mend") as caught:
        run(feed)
    assert "\n" not in str(caught.value)
