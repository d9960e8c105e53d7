"""Which numbers seen in a graph float16 cannot hold: too large, too small, or lost where they cancel.

float16 has 11 significant bits, ends at 65,504, and has fewer bits from 2^-14 downwards. A difference of two
numbers keeps their absolute error: where it is 2^-n of them, it has lost n bits. For example the standard
deviation of values that nearly agree::

    m = ReduceMean(y)        y = 1.001, 1.002, 0.998:   2^-11 of 1 is all that float16 tells apart
    d = Sub(y, m)            kept, like what computes y and m, back to the products that they come from
    s = ReduceMean(d d)      d d reaches 4e-6: too small, kept
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from .artifact import Evaluator, Feed
from .decisions import back_to_products
from .rules.graph import is_op

LARGEST = float(np.finfo(np.float16).max) / 2
"""Largest magnitude seen that still becomes float16: other inputs may go twice as far."""

SMALLEST = float(np.finfo(np.float16).tiny)
"""Where the largest magnitude of a tensor is below it, every number of the tensor has lost bits."""

LEFT = 2.0**-6
"""Smallest share of its operands that a sum of float16 may be. A rounding is 77 dB below its number in the
mean, and 2^-6 is 36 dB: what is left beyond has less than the 40 dB that a network in float16 must keep."""


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


def out_of_range(model: ir.Model, peaks: Mapping[str, float]) -> Mapping[ir.Node, str]:
    """Say of every node whose numbers float16 cannot hold why not.

    Args:
        model: The graph, with named values.
        peaks: What `magnitudes` found.
    """
    found: dict[ir.Node, str] = {}
    for node in model.graph:
        if reason := _why_too_large(node, peaks) or _why_too_small(node, peaks):
            found.setdefault(node, reason)
        if reason := _why_cancelling(node, peaks):
            found.setdefault(node, reason)
            for before in back_to_products(node):
                found.setdefault(before, f"{node.name} subtracts what it computes: {reason}")
    return found


def _why_too_large(node: ir.Node, peaks: Mapping[str, float]) -> str:
    """Say which of a node's tensors, constants among them, does not fit, or ``""``."""
    for value in _floats(node):
        peak = _peak(value, peaks)
        if not peak <= LARGEST:
            return f"{value.name} reaches {peak:.3g}, float16 ends at 65504"
    return ""


def _why_too_small(node: ir.Node, peaks: Mapping[str, float]) -> str:
    """Say which of a node's computed tensors float16 holds with fewer bits, or ``""``."""
    for value in _floats(node):
        if 0 < peaks.get(value.name or "", 0.0) < SMALLEST:
            return f"{value.name} reaches {peaks[value.name or '']:.3g}, float16 has fewer bits below 6.1e-05"
    return ""


def _why_cancelling(node: ir.Node, peaks: Mapping[str, float]) -> str:
    """Say how little a sum or a difference leaves of its operands, or ``""``."""
    if not is_op(node, "Add", "Sub") or node.outputs[0].dtype != ir.DataType.FLOAT:
        return ""
    largest = max(_peak(value, peaks) for value in _floats(node) if value is not node.outputs[0])
    left = peaks.get(node.outputs[0].name or "", 0.0)
    if 0 < left < LEFT * largest:
        return f"of numbers up to {largest:.3g}, {left:.3g} is left"
    return ""


def _floats(node: ir.Node) -> list[ir.Value]:
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    return [value for value in values if value.dtype == ir.DataType.FLOAT]


def _peak(value: ir.Value, peaks: Mapping[str, float]) -> float:
    tensor = value.const_value
    own = float(np.abs(tensor.numpy()).max(initial=0.0)) if tensor is not None else 0.0
    return max(own, peaks.get(value.name or "", 0.0))
