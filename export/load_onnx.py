"""A user's ONNX file as ``Exported``. The file is untrusted: it is bounded and checked before it is used."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as library

from ..errors import BuildError, FourfoldError
from ..models.spec import Dim, TensorSpec
from .artifact import Evaluator, Exported, Feed, Golden, Refusal, Step
from .check import check
from .free_sizes import advice, fix_free, name_free
from .index_range import upper_bound
from .names import rename_dimensions
from .parity import Parity, fresh_inputs
from .quiet import quiet
from .untrusted import first_line, read_proto

OPSETS = (18, 25)
"""Lowest and highest opset that graphs are converted to."""

_GOLDEN_BATCH = 2
_D = ir.DataType
_INPUT_TYPES = {
    *(_D.FLOAT, _D.DOUBLE, _D.FLOAT16, _D.BOOL),
    *(_D.INT8, _D.INT16, _D.INT32, _D.INT64, _D.UINT8, _D.UINT16, _D.UINT32, _D.UINT64),
}

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


def load_onnx(
    path: Path,
    *,
    opset: int,
    evaluate: Evaluator,
    seed: int = 0,
    input_shape: tuple[int, ...] | None = None,
) -> Exported:
    """Load and check a user's graph, and bring it to an opset.

    Args:
        path: The file; external data must lie in its folder.
        opset: The opset wanted; a graph that cannot be brought there safely keeps its own, and the history
            says why.
        evaluate: Runs a graph; the golden answers come from the graph as it was in the file.
        seed: Of the golden inputs.
        input_shape: Sizes of the one input without the batch, where the file leaves them free.

    Returns:
        The graph with its weights inside.

    Raises:
        BuildError: If the file is missing, broken, hostile, already quantized, or not a network that can be
            run.
        UsageError: If the shape contradicts the file.
    """
    start = time.perf_counter()
    path = Path(path)
    source = _prepare(path, input_shape)
    was = source.opset_imports.get("", 1)
    inputs, golden, refusals = _first_run(source, path, evaluate, seed)
    model, parities, kept = _convert(source, inputs, opset, evaluate, seed)
    step = Step(
        name="load_onnx",
        detail=f"read {path.name} in opset {was}, now in opset {model.opset_imports.get('', 1)}",
        nodes=model.graph.num_nodes(),
        seconds=time.perf_counter() - start,
        refusals=refusals + kept,
        parity=parities,
    )
    outputs = tuple(_output(value, golden.outputs, inputs) for value in model.graph.outputs)
    return Exported(path.stem, model, inputs, outputs, golden, "fp32", (step,))


def read_inputs(path: Path, input_shape: tuple[int, ...] | None = None) -> tuple[TensorSpec, ...]:
    """Read only what the file wants to be fed, with every check that loading makes.

    Args:
        path: The file.
        input_shape: As for ``load_onnx``.

    Raises:
        BuildError: As ``load_onnx``.
        UsageError: As ``load_onnx``.
    """
    model = _prepare(path, input_shape)
    return tuple(_spec(value, path) for value in model.graph.inputs)


def _prepare(path: Path, input_shape: tuple[int, ...] | None) -> ir.Model:
    """Read the file into a graph without functions, with weights that no caller can replace, all named."""
    proto = read_proto(path)
    try:
        with quiet():
            model = ir.from_proto(proto)
            library.InlinePass()(model)
            library.RemoveInitializersFromInputsPass()(model)
            library.NameFixPass()(model)
    except Exception as error:  # damage that the checker lets pass, such as types that do not exist
        message = f"{path.name}: expected a valid ONNX graph, got {first_line(_root(error))}; export it again"
        raise BuildError(message) from error
    _check_float(model, path)
    name_free(model)
    if input_shape is not None:
        fix_free(model, input_shape, path.name)
    return model


def _root(error: BaseException) -> BaseException:
    """Give the error that the others were raised from: it says what is wrong, they say where."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _check_float(model: ir.Model, path: Path) -> None:
    """Refuse a graph that somebody quantized: its int8 kernels would run under the name of fp32."""
    kinds = {node.op_type for node in model.graph.all_nodes()}
    found = sorted(k for k in kinds if k in _QUANTIZED or k.startswith("QLinear") or k.endswith("Integer"))
    if found:
        message = (
            f"{path.name}: expected a float network, got one that is already quantized ({', '.join(found)}); "
            "give the float file that it was made from, and --precision int8 quantizes that"
        )
        raise BuildError(message)


def _first_run(
    model: ir.Model, path: Path, evaluate: Evaluator, seed: int
) -> tuple[tuple[TensorSpec, ...], Golden, tuple[Refusal, ...]]:
    """Run the graph; when it only runs with batch 1, fix that."""
    inputs = tuple(_spec(value, path) for value in model.graph.inputs)
    if not any("batch" in spec.shape for spec in inputs):
        reason = "the file fixes the batch size"
        return inputs, _answer(model, inputs, path, evaluate, seed), (Refusal("batch", reason),)
    try:
        return inputs, _answer(model, inputs, path, evaluate, seed), ()
    except BuildError as error:
        reason = f"the batch size stays fixed at 1: {error}"
    rename_dimensions(model, {"batch": 1})
    inputs = tuple(replace(s, shape=tuple(1 if d == "batch" else d for d in s.shape)) for s in inputs)
    return inputs, _answer(model, inputs, path, evaluate, seed), (Refusal("batch", reason),)


def _answer(
    model: ir.Model, inputs: tuple[TensorSpec, ...], path: Path, evaluate: Evaluator, seed: int
) -> Golden:
    feed = fresh_inputs(inputs, batch=_GOLDEN_BATCH, seed=seed)
    try:
        with quiet():
            return Golden(feed, evaluate(model)(feed))
    except Exception as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
        message = (
            f"{path.name}: expected a graph that runs on {shapes}, got {first_line(error)}; {advice(inputs)}"
        )
        raise BuildError(message) from error


def _convert(
    source: ir.Model, inputs: tuple[TensorSpec, ...], opset: int, evaluate: Evaluator, seed: int
) -> tuple[ir.Model, tuple[Parity, ...], tuple[Refusal, ...]]:
    """Give the graph in the opset wanted, or as it is with the reason."""
    was = source.opset_imports.get("", 1)
    if was == opset:
        return source, (), ()
    if was > opset or not OPSETS[0] <= opset <= OPSETS[1]:
        reason = f"stays in opset {was}: only conversions upwards to {OPSETS[0]}..{OPSETS[1]} are safe"
        return source, (), (Refusal("opset", reason),)
    try:
        model = _converted(source, opset)
        found = check(
            "fp32",
            evaluate(source),
            evaluate(model),
            inputs,
            names=(f"opset {was}", f"opset {opset}"),
            seed=seed + 1,
        )
    except Exception as error:
        return source, (), (Refusal("opset", f"stays in opset {was}: {first_line(error)}"),)
    if not all(p.ok for p in found):
        return source, (), (Refusal("opset", f"stays in opset {was}: its converted form answers otherwise"),)
    return model, found, ()


def _converted(source: ir.Model, opset: int) -> ir.Model:
    from onnxscript.version_converter import ConvertVersionPass

    model = source.clone()
    with quiet():
        ConvertVersionPass(opset, fallback=True)(model)
    if model.opset_imports.get("") != opset:
        message = f"expected the converter to write opset {opset}, got {model.opset_imports.get('')}"
        raise FourfoldError(message)
    library.CheckerPass(full_check=True)(model)
    return model


def _spec(value: ir.Value, path: Path) -> TensorSpec:
    if value.dtype is None or value.shape is None or value.dtype not in _INPUT_TYPES:
        message = (
            f"{path.name}: expected inputs that are tensors of numbers or booleans, got {value.type} at "
            f"{value.name!r}; convert it inside your program before the network"
        )
        raise BuildError(message)
    shape = tuple(_dim(d) for d in value.shape)
    return TensorSpec(value.name or "", shape, str(value.dtype.numpy()), upper_bound(value))


def _output(value: ir.Value, answers: Feed, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """Describe an output: free where the graph says so, or says nothing while more than the batch is free."""
    answer = answers[value.name or ""]
    known = {d for spec in inputs for d in spec.shape if isinstance(d, str)}
    declared = [d if isinstance(d, int) or d.value in known else None for d in value.shape or ()]
    if len(declared) != answer.ndim:
        declared = [None] * answer.ndim
    fixed = known <= {"batch"}
    shape = [
        _dim(d) if d is not None else size if fixed else f"{value.name}_{i}"
        for i, (d, size) in enumerate(zip(declared, answer.shape, strict=True))
    ]
    if "batch" in known and answer.ndim and declared[0] is None and answer.shape[0] == _GOLDEN_BATCH:
        shape[0] = "batch"
    return TensorSpec(value.name or "", tuple(shape), answer.dtype.name)


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    return dim if isinstance(dim, int) else str(dim.value)
