"""Small networks as text, lowered together: saved, read back, evaluated, and held against ONNX Runtime.

The cases of a file share one package: each is a network of its own, with its own inputs and outputs. Names in
upper case are constants. A first size of 2 is a free batch called B.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from fourfold.export.artifact import Array, Exported, Feed, Golden
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.device import Device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate

Case = tuple[str, dict[str, Array]]
Answers = tuple[Feed, Feed]
"""What the package answers, and what ONNX Runtime does."""
Together = Callable[..., Answers]

_TYPES = {"float32": "float", "int64": "int64", "bool": "bool", "float16": "float16"}


def network(text: str, arrays: Mapping[str, Array], opset: int) -> onnx.ModelProto:
    """Make one case a model; it ends with y, or with y and z."""
    inputs = ", ".join(f"{declared(array)} {name}" for name, array in arrays.items() if not name[0].isupper())
    outputs = "float y, float z" if "y, z" in text else "float y"
    head = f'<ir_version: 10, opset_import: ["": {opset}]> net ({inputs}) => ({outputs})'
    model = parser.parse_model(f"{head} {{ {text} }}")
    constants = (numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items() if n[0].isupper())
    model.graph.initializer.extend(constants)
    for output in model.graph.output:
        output.ClearField("type")
    return model


def declared(array: Array) -> str:
    dims = ["B" if axis == 0 and size == 2 else str(size) for axis, size in enumerate(array.shape)]
    word = _TYPES[array.dtype.name]
    return f"{word}[{', '.join(dims)}]" if dims else word


def prefixed(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Call every value after its case, also in bodies."""
    model = ir.from_proto(proto)
    for graph in model.graphs():
        made = (value for node in graph for value in node.outputs)
        values = [v for v in (*graph.inputs, *graph.initializers.values(), *made) if v.name]
        ir.convenience.rename_values(values, [f"{name}.{value.name}" for value in values])
    return ir.to_proto(model)


def joined(cases: Mapping[str, Case], opset: int) -> Exported:
    """Join networks into one, with names of their own, and let ONNX Runtime answer."""
    whole, feed = onnx.ModelProto(), dict[str, Array]()
    for name, (text, arrays) in cases.items():
        model = prefixed(network(text, arrays, opset), name)
        feed |= {f"{name}.{key}": np.asarray(a) for key, a in arrays.items() if not key[0].isupper()}
        if not whole.graph.name:
            whole.CopyFrom(model)
            continue
        for kind in ("node", "input", "output", "initializer"):
            getattr(whole.graph, kind).extend(getattr(model.graph, kind))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(whole))
    answers = evaluate(model)(feed)
    inputs = tuple(spec(value, feed[value.name or ""]) for value in model.graph.inputs)
    outputs = tuple(TensorSpec(name, array.shape, array.dtype.name) for name, array in answers.items())
    return Exported("cases", model, inputs, outputs, Golden(feed, answers))


def spec(value: ir.Value, array: Array) -> TensorSpec:
    dims = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ())
    return TensorSpec(value.name or "", dims, array.dtype.name)


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Lower, save, read back and evaluate."""

    def run(cases: Mapping[str, Case], *, opset: int = 20, target: str = "iOS17") -> Answers:
        device = Device("phone", "a phone", "coreml", "aarch64", "ios", "ANE", target=target)
        runtime, exported = get_runtime("coreml"), joined(cases, opset)
        if reason := runtime.missing(device):
            pytest.skip(reason)
        folder: Path = tmp_path_factory.mktemp("package")
        with runtime.open(runtime.compile(exported, device, folder), device) as session:
            return session.run(exported.golden.inputs), exported.golden.outputs

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that holds cases against ONNX Runtime run once for each of its file's ``CASES``."""
    if "same" in metafunc.fixturenames:
        metafunc.parametrize("case", list(metafunc.module.CASES))


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest, together: Together) -> Answers:
    """Answer all cases of a file together."""
    return together(request.module.CASES)


@pytest.fixture
def same(answers: Answers, case: str) -> Callable[[], None]:
    """Hold the outputs of one case against ONNX Runtime's."""

    def check() -> None:
        found, expected = answers
        keys = [key for key in expected if key.startswith(f"{case}.")]
        assert keys
        for key in keys:
            assert found[key].shape == expected[key].shape, key
            assert found[key].dtype == expected[key].dtype, key
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=2e-5, err_msg=key)

    return check
