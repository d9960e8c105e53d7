"""Small networks written as text."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from fourfold.export.artifact import Array, Exported, Golden
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.reference import evaluate

Build = Callable[..., Exported]


def exported(text: str, feed: dict[str, Array], /, *, golden: bool = True, **weights: Array) -> Exported:
    """Make an ``Exported`` of ONNX text: initializers by keyword, the golden answer from the reference."""
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    model = ir.from_proto(proto)
    answers = evaluate(model)(feed) if golden else {}
    return Exported(
        model.graph.name or "net",
        model,
        tuple(_spec(value) for value in model.graph.inputs),
        tuple(_spec(value) for value in model.graph.outputs),
        Golden(feed, answers),
    )


def _spec(value: ir.Value) -> TensorSpec:
    assert value.name is not None
    assert value.shape is not None
    assert value.dtype is not None
    dims = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    return TensorSpec(value.name, dims, np.dtype(value.dtype.numpy()).name)


@pytest.fixture(scope="session")
def build() -> Build:
    return exported
