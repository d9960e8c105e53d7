"""A graph as one ONNX file."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from fourfold.errors import BuildError
from fourfold.export.artifact import Exported
from fourfold.runtimes import serialize

TEXT = '<ir_version: 10, opset_import: ["": 20]> net (float[2] x) => (float[2] y) { y = Mul(x, w) }'


def test_the_weights_are_inside(build: Callable[..., Exported]) -> None:
    weights = np.array([3, 4], np.float32)
    written = onnx.load_from_string(serialize.serialize(build(TEXT, {}, golden=False, w=weights)))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(written.graph.initializer[0]), weights)


def test_what_the_format_cannot_hold_is_refused(
    build: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serialize, "_MAX_BYTES", 10)
    exported = build(TEXT, {}, golden=False, w=np.ones(2, np.float32))
    with pytest.raises(
        BuildError, match=r"net as one ONNX file below 2 GB, got \d+ bytes; use a smaller model"
    ):
        serialize.serialize(exported)
