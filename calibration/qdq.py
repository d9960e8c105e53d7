"""Quantize: a float graph and observed ranges become a graph with QuantizeLinear and DequantizeLinear.

Before: ``x -> Conv(w, b) -> Relu -> y``
After:  ``x -> Q -> DQ -> Conv(DQ(w8), DQ(b32)) -> Relu -> Q -> DQ -> y``, one integer kernel in an engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..errors import BuildError
from ..export.artifact import Array, Evaluator, Exported, Feed, Step
from ..export.parity import Parity, parity
from .graph import PASSING, WEIGHTED, answers, constant, range_of, source
from .grids import Grid, activation_grid, to_integers, weight_scales, widen_for_bias
from .placement import Placement, place
from .ranges import Ranges
from .scheme import QdqStyle, QuantScheme

_LOWEST_OPSET = 13
"""DequantizeLinear knows channels since then."""


def quantize(
    exported: Exported,
    ranges: Ranges,
    style: QdqStyle,
    scheme: QuantScheme,
    *,
    evaluate: Evaluator,
    feeds: Sequence[Feed] = (),
) -> Exported:
    """Write 8-bit integers into the graph where they pay.

    Args:
        exported: The float network.
        ranges: Observed ranges of its activations.
        style: What the engine takes and gains from.
        scheme: What the user asks for.
        evaluate: Makes both graphs runnable, to compare them.
        feeds: Real inputs to compare on, beside the golden input.

    Returns:
        The network in int8, with reasons for what stayed in float and the error against float.

    Raises:
        BuildError: If nothing can be quantized, or the graph is too old.
    """
    started = time.perf_counter()
    _check_opset(exported.model)
    placement = place(exported.model, ranges.values, style, scheme)
    if not placement.nodes:
        reasons = "; ".join(sorted({r.reason for r in placement.refusals})) or "it has none of them"
        raise BuildError(
            f"expected an operator that {style.name} can quantize in {exported.name}, got none ({reasons}); "
            "use fp32 on this device"
        )
    model = exported.model.clone()
    _Writer(model, placement, ranges, style, scheme).write()
    checks = _compare(exported, model, evaluate, feeds)
    step = Step(
        name=f"quantize: {style.name}",
        detail=f"{len(placement.nodes)} nodes compute in 8 bits, {len(placement.tensors)} activations are "
        f"quantized, ranges by {ranges.observer} over {ranges.source.description}",
        changed=len(placement.nodes),
        nodes=model.graph.num_nodes(),
        seconds=time.perf_counter() - started,
        refusals=placement.refusals,
        parity=checks,
    )
    return exported.after(step, model, precision="int8")


def _check_opset(model: ir.Model) -> None:
    opset = model.graph.opset_imports.get("", 0)
    if opset < _LOWEST_OPSET:
        raise BuildError(f"expected opset {_LOWEST_OPSET} or later to quantize, got {opset}; export it anew")


def _compare(
    exported: Exported, model: ir.Model, evaluate: Evaluator, feeds: Sequence[Feed]
) -> tuple[Parity, ...]:
    before, after = evaluate(exported.model), evaluate(model)
    checks: list[Parity] = []
    for feed in (exported.golden.inputs, *feeds):
        batch = len(next(iter(feed.values())))
        checks.append(parity("int8", before(feed), after(feed), names=("float", "int8"), batch=batch))
    return tuple(checks)


class _Writer:
    """Puts the decided pairs of QuantizeLinear and DequantizeLinear into a graph."""

    def __init__(
        self, model: ir.Model, placement: Placement, ranges: Ranges, style: QdqStyle, scheme: QuantScheme
    ) -> None:
        self.graph = model.graph
        self.ranges, self.style, self.scheme = ranges.values, style, scheme
        self.integer = {n for n in self.graph if n.outputs[0].name in placement.nodes}
        names = set(placement.tensors)
        values = [*self.graph.inputs, *(v for n in self.graph for v in n.outputs)]
        self.quantized = [v for v in values if v.name in names]
        self.rounded = set(placement.rounded)
        self.grids: dict[ir.Value, Grid] = {}
        self.weights: dict[tuple[ir.Value, int | None, str], tuple[ir.Value, Array]] = {}
        self.top = 64 if scheme.reduce_range else 127

    def write(self) -> None:
        """Write weights first, while inputs still have their own names, then activations."""
        for value in self.quantized:
            self.grids[value] = self._grid(value)
        for node in [n for n in self.graph if n in self.integer]:
            self._write_weights(node)
        for value in self.quantized:
            self._write_activation(value)
        for value in [
            v for v in self.graph.initializers.values() if not v.uses() and not v.is_graph_output()
        ]:
            del self.graph.initializers[value.name or ""]

    def _grid(self, value: ir.Value) -> Grid:
        """Choose a grid; values that are only moved keep the grid they had."""
        node = source(value)
        moved = node is not None and node in self.integer and node.op_type in PASSING
        before = node.inputs[0] if node is not None and moved else None
        if before in self.grids:
            return self.grids[before]
        symmetric = self.style.symmetric_activations or self._read_by(value, self.style.symmetric_inputs)
        found = range_of(value, self.ranges)
        assert found is not None, "placement quantizes only what has a range"
        return activation_grid(*found, self.style, symmetric=symmetric)

    def _read_by(self, value: ir.Value, operators: frozenset[str]) -> bool:
        """Tell whether an integer node of these kinds reads a value, or what it is only moved to."""
        readers = [n for n in value.consumers() if n in self.integer]
        moved = [v for n in readers if n.op_type in PASSING for v in answers(n)]
        return any(n.op_type in operators for n in readers) or any(self._read_by(v, operators) for v in moved)

    def _write_activation(self, value: ir.Value) -> None:
        grid = self.grids[value]
        readers = [(n, i) for n, i in value.uses() if value.name in self.rounded or n in self.integer]
        scale = self._initializer(f"{value.name}_scale", np.array(grid.scale, np.float32))
        zero = self._initializer(f"{value.name}_zero", np.array(grid.zero_point, grid.dtype))
        name = value.name
        was_output = value.is_graph_output() and name in self.rounded
        if was_output:
            value.name = f"{name}_float"
        quantize = self._node("QuantizeLinear", [value, scale, zero], f"{name}_quantized")
        restore = self._node("DequantizeLinear", [quantize.outputs[0], scale, zero], f"{name}_dequantized")
        for node, index in readers:
            node.replace_input_with(index, restore.outputs[0])
        self._insert(value, [quantize, restore])
        if was_output:
            self._hand_over(value, restore.outputs[0], name or "")

    def _hand_over(self, value: ir.Value, restored: ir.Value, name: str) -> None:
        """Make the rounded value the graph's output, under the output's name."""
        restored.name, restored.type, restored.shape = name, value.type, value.shape
        self.graph.outputs[list(self.graph.outputs).index(value)] = restored

    def _insert(self, value: ir.Value, new: list[ir.Node]) -> None:
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph.node(0), new)
        else:
            self.graph.insert_after(producer, new)

    def _node(self, operator: str, inputs: list[ir.Value], output: str, axis: int | None = None) -> ir.Node:
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node(operator, inputs, attributes, name=f"{output}/{operator}")
        node.outputs[0].name = output
        return node

    def _initializer(self, name: str, array: Array) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    # Weights and biases.

    def _write_weights(self, node: ir.Node) -> None:
        held = node.inputs[1] if node.op_type in WEIGHTED else None
        weight = constant(held)
        if held is None or weight is None:
            return
        axis = channel_axis(node, weight) if self.scheme.per_channel else None
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 and self.style.quantize_bias else None
        data = node.inputs[0]
        key = (held, axis, "" if bias is None or data is None else f"{data.name} {node.outputs[0].name}")
        if key not in self.weights:
            self.weights[key] = self._weight(node, held, weight, axis, bias)
        restored, scales = self.weights[key]
        node.replace_input_with(1, restored)
        if bias is not None and data is not None:
            node.replace_input_with(2, self._bias(node, bias, scales * np.float32(self.grids[data].scale)))

    def _weight(
        self, node: ir.Node, held: ir.Value, weight: Array, axis: int | None, bias: Array | None
    ) -> tuple[ir.Value, Array]:
        scales = weight_scales(weight, axis, top=self.top)
        if bias is not None and node.inputs[0] is not None:
            scales = widen_for_bias(scales, bias, self.grids[node.inputs[0]].scale)
        integers = to_integers(weight, scales, axis, top=self.top, dtype="int8")
        name = (
            f"{held.name}_{len(self.weights)}" if any(k[0] is held for k in self.weights) else f"{held.name}"
        )
        return self._restored(node, name, integers, scales, axis), scales

    def _bias(self, node: ir.Node, bias: Array, scales: Array) -> ir.Value:
        axis = 0 if scales.ndim else None
        integers = to_integers(bias, scales, axis, top=2**31 - 1, dtype="int32")
        return self._restored(node, f"{node.outputs[0].name}_bias", integers, scales, axis)

    def _restored(
        self, node: ir.Node, name: str, integers: Array, scales: Array, axis: int | None
    ) -> ir.Value:
        """Store integers and turn them back into floats right before their reader."""
        stored = self._initializer(f"{name}_{integers.dtype}", integers)
        scale = self._initializer(f"{name}_{integers.dtype}_scale", scales)
        zero = self._initializer(f"{name}_{integers.dtype}_zero", np.zeros(scales.shape, integers.dtype))
        restore = self._node("DequantizeLinear", [stored, scale, zero], f"{name}_dequantized", axis)
        self.graph.insert_before(node, [restore])
        return restore.outputs[0]


def channel_axis(node: ir.Node, weight: Array) -> int | None:
    """Find the axis of a weight along which each channel may have a scale of its own.

    Args:
        node: The node that multiplies by it.
        weight: Its second input.

    Returns:
        The axis; None where one output value mixes several scales.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    if node.op_type == "ConvTranspose":
        return 1 if node.attributes.get_int("group", 1) == 1 else None
    return weight.ndim - 1 if weight.ndim == 2 else None
