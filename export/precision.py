"""Precision written into the graph: float16 wherever the numbers seen fit into it.

float16 has 11 significant bits and ends at 65,504. A node whose values come near that end on the golden
inputs stays in float32 and says so; so does what ONNX defines in float32 only, and what repeats a rounding
many times (`half.why_full`).

The proof here is of the weights and of the wiring: a CPU without float16 kernels computes in float32 between
the rounded tensors. What an engine's own roundings do is seen when the compiled artifact is checked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from ..errors import BuildError
from .artifact import Evaluator, Exported, Feed, Refusal, Step
from .half import halve, why_full
from .parity import parity, require
from .rules.shapes import infer_shapes

LARGEST = float(np.finfo(np.float16).max) / 2
"""Largest magnitude seen that still becomes float16: other inputs may go twice as far."""


def to_fp16(exported: Exported, *, evaluate: Evaluator) -> Exported:
    """Write float16 into a float32 graph; its inputs and outputs stay float32.

    Args:
        exported: The float32 graph.
        evaluate: Runs a graph as it is written.

    Returns:
        The float16 graph with a step whose refusals name every node that stayed in float32.

    Raises:
        BuildError: If the type of a tensor is not known, or the graph cannot be written or run.
        VerdictError: If the float16 graph no longer resembles the float32 one.
    """
    start = time.perf_counter()
    model = exported.model.clone()
    infer_shapes(model)
    _check_types(model, exported.name)
    peaks = magnitudes(model, exported.golden.inputs, evaluate)
    refusals = tuple(_refusals(model, peaks))
    kept = {refusal.where for refusal in refusals}
    count = halve(model, lambda node: (node.name or "") in kept)
    answers = evaluate(model)(exported.golden.inputs)
    batch = next(iter(exported.golden.inputs.values())).shape[0]
    found = parity("fp16", exported.golden.outputs, answers, names=("float model", "fp16 graph"), batch=batch)
    require((found,), "precision: fp16")
    step = Step(
        name="precision: fp16",
        detail=f"{count} nodes in float16, {len(refusals)} in float32",
        changed=count,
        nodes=model.graph.num_nodes(),
        seconds=time.perf_counter() - start,
        refusals=refusals,
        parity=(found,),
    )
    return exported.after(step, model, precision="fp16")


def magnitudes(model: ir.Model, inputs: Feed, evaluate: Evaluator) -> Mapping[str, float]:
    """Give the largest magnitude of every float32 tensor of the main graph on some inputs.

    Args:
        model: The graph; it stays as it is.
        inputs: Arrays by name.
        evaluate: Runs a graph as it is written.
    """
    probed = model.clone()
    values = [*probed.graph.inputs, *(v for node in list(probed.graph) for v in node.outputs)]
    floats = [v for v in values if v.dtype == ir.DataType.FLOAT and v.name]
    axis_free = {"keepdims": 0}
    names: dict[str, str] = {}
    for value in floats:
        absolute = ir.node("Abs", [value])
        peak = ir.node("ReduceMax", absolute.outputs, axis_free)
        peak.outputs[0].name = f"{value.name}/peak"
        peak.outputs[0].type, peak.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        probed.graph.extend([absolute, peak])
        probed.graph.outputs.append(peak.outputs[0])
        names[f"{value.name}/peak"] = str(value.name)
    answers = evaluate(probed)(inputs)
    return {name: float(answers[probe]) for probe, name in names.items()}


def _refusals(model: ir.Model, peaks: Mapping[str, float]) -> list[Refusal]:
    found: list[Refusal] = []
    for node in model.graph:
        reason = why_full(node, model.opset_imports.get("", 0)) or _why_too_large(node, peaks)
        if reason:
            found.append(Refusal(node.name or "", reason))
    return found


def _why_too_large(node: ir.Node, peaks: Mapping[str, float]) -> str:
    """Say which of a node's tensors, constants among them, does not fit, or ``""``."""
    for value in (*node.inputs, *node.outputs):
        if value is None or value.dtype != ir.DataType.FLOAT:
            continue
        tensor = value.const_value
        peak = float(np.abs(tensor.numpy()).max(initial=0.0)) if tensor is not None else 0.0
        peak = max(peak, peaks.get(value.name or "", 0.0))
        if not peak <= LARGEST:
            return f"{value.name} reaches {peak:.3g}, float16 ends at 65504"
    return ""


def _check_types(model: ir.Model, name: str) -> None:
    """Refuse a graph in which a tensor has no type, and give every node a name of its own."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
        for value in node.outputs:
            if value.name and value.dtype is None and value.uses():
                message = (
                    f"expected a graph with known types, got {value.name} of {name} without one; "
                    "export it with shapes and types inferred"
                )
                raise BuildError(message)
