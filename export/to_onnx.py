"""From a torch module to one ONNX graph, proven equal to torch on fresh inputs in the same step."""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn
from torch._dynamo.exc import UserError
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ..errors import BuildError
from ..models.spec import Dim, TensorSpec
from .artifact import Array, Evaluator, Exported, Golden, Refusal, Step
from .check import check
from .names import name_after_modules, name_dimensions
from .parity import fresh_inputs, require
from .quiet import quiet
from .rules.tidy import clean_export
from .torch_run import torch_run

OPSETS = (18, 25)
"""Lowest and highest opset that the exporter writes right: below 18 it goes through a converter of versions,
above 25 that converter fails and a broken file is written without an error."""

_GOLDEN_BATCH = 2


def to_onnx(
    module: nn.Module,
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[str, ...],
    *,
    opset: int,
    evaluate: Evaluator,
    history: tuple[Step, ...] = (),
    seed: int = 0,
) -> Exported:
    """Export a network with a free batch size, or with a fixed one and the reason.

    Args:
        module: The network in evaluation mode.
        name: Of the network.
        inputs: Its inputs, in the order of ``forward``; a leading ``"batch"`` is free in the graph.
        outputs: Names of what it returns.
        opset: The opset to write.
        evaluate: Runs the graph, to compare it with torch.
        history: Steps before this one.
        seed: Of the golden inputs and the parity inputs.

    Returns:
        The graph, its golden answer from torch, and the history with this step.

    Raises:
        BuildError: If torch cannot trace or write the network.
        VerdictError: If the graph answers differently from torch.
    """
    start = time.perf_counter()
    _check_opset(opset)
    run = torch_run(module, inputs, outputs)
    program, inputs, refusals = _trace(module, inputs, seed)
    golden = fresh_inputs(inputs, batch=_GOLDEN_BATCH, seed=seed)
    answers = run(golden)
    model = _write(program, inputs, outputs, opset)
    parities = check("fp32", run, evaluate(model), inputs, names=("torch", "onnx graph"), seed=seed + 1)
    require(parities, "to_onnx")
    step = Step(
        name="to_onnx",
        detail=f"traced by torch {torch.__version__} and written in opset {opset}",
        nodes=model.graph.num_nodes(),
        seconds=time.perf_counter() - start,
        refusals=refusals,
        parity=parities,
    )
    specs = tuple(_output_spec(value, answers[value.name or ""]) for value in model.graph.outputs)
    return Exported(name, model, inputs, specs, Golden(golden, answers), "fp32", (*history, step))


def _check_opset(opset: int) -> None:
    if not OPSETS[0] <= opset <= OPSETS[1]:
        message = (
            f"expected an opset from {OPSETS[0]} to {OPSETS[1]}, which torch's exporter writes right, "
            f"got {opset}; choose one in this range"
        )
        raise BuildError(message)


def _trace(
    module: nn.Module, inputs: tuple[TensorSpec, ...], seed: int
) -> tuple[torch.export.ExportedProgram, tuple[TensorSpec, ...], tuple[Refusal, ...]]:
    """Trace with a free batch size, or with batch 1 and the reason when the network allows no other."""
    try:
        return _export(module, inputs, seed), inputs, ()
    except Exception as error:
        fixed = not any("batch" in spec.shape for spec in inputs)
        if fixed or isinstance(error, GuardOnDataDependentSymNode):
            raise _build_error(error) from error
        refusal = Refusal("batch", f"the batch size stays fixed at 1: {_cause(error)}")
    bound = tuple(replace(s, shape=tuple(1 if d == "batch" else d for d in s.shape)) for s in inputs)
    try:
        return _export(module, bound, seed), bound, (refusal,)
    except Exception as error:
        raise _build_error(error) from error


def _export(module: nn.Module, inputs: tuple[TensorSpec, ...], seed: int) -> torch.export.ExportedProgram:
    feed = fresh_inputs(inputs, batch=_GOLDEN_BATCH, seed=seed)
    free = {d for spec in inputs for d in spec.shape if isinstance(d, str)}
    dims = {name: torch.export.Dim(name) for name in free}
    shapes = tuple({i: dims[d] for i, d in enumerate(s.shape) if isinstance(d, str)} for s in inputs)
    arguments = tuple(torch.from_numpy(feed[spec.name]) for spec in inputs)
    with quiet():
        return torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)


def _write(
    program: torch.export.ExportedProgram,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[str, ...],
    opset: int,
) -> ir.Model:
    try:
        with quiet():
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=[spec.name for spec in inputs],
                output_names=list(outputs),
                external_data=False,
                optimize=False,
                verbose=False,
            )
            if written is not None:
                clean_export()(written.model)
    except Exception as error:
        raise _build_error(error) from error
    if written is None or written.model.opset_imports.get("") != opset:
        got = written.model.opset_imports.get("") if written is not None else None
        message = f"expected torch's exporter to write opset {opset}, got {got}; choose another opset"
        raise BuildError(message)
    name_dimensions(written.model, inputs)
    name_after_modules(written.model)
    return written.model


def _build_error(error: Exception) -> BuildError:
    return BuildError(
        f"expected a network that torch can trace and write, got {_cause(error)}; "
        "rewrite that place without decisions on tensor values or with operators that ONNX has"
    )


def _cause(error: BaseException) -> str:
    """Say in a few words what torch complains about, and on which line of the network."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    text = re.split(r"\. |\n", str(root).strip())[0].rstrip(".!")
    if isinstance(root, UserError) and "your code specialized" in str(root):
        text = "the code works with one batch size only"
    library_root = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(root.__traceback__) if not f.filename.startswith(library_root)]
    places = [f for f in frames if f.name == "forward" or f.line]
    inside = [f for f in places if Path(f.filename) != Path(__file__)]
    where = (
        f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno}: {inside[-1].line})" if inside else ""
    )
    return f"{type(root).__name__}{': ' if text else ''}{text}{where}"


def _output_spec(value: ir.Value, answer: Array) -> TensorSpec:
    dims = [d if isinstance(d, int) else d.value for d in value.shape or ()]
    shape: list[Dim] = [size if d is None else d for d, size in zip(dims, answer.shape, strict=True)]
    return TensorSpec(value.name or "", tuple(shape), answer.dtype.name)
