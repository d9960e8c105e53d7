"""The electronic rest of a graph, cut wherever light computes.

Before::

    x -> Conv -> Relu -> Conv -> Softmax -> y            both convolutions are passes

After, one graph whose inputs are what the camera reads and whose outputs are what the modulator shows::

    a -> Relu -> b      c -> Softmax -> y                a, c inputs; b, y outputs

Stage 0 needs no pass, stage s needs passes 0 to s - 1; each stage runs by itself in the reference evaluator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...export.artifact import Run
from ..reference import evaluate


@dataclass(frozen=True)
class Segment:
    """One electronic stage."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Run


def cut(model: ir.Model, ends: Sequence[tuple[str, str]]) -> ir.Model:
    """Take the optical nodes out of a graph.

    Args:
        model: The graph; it stays as it is.
        ends: For each optical node the names of what goes in and what comes out, in the order of the graph.

    Returns:
        A graph that takes what comes out as further inputs and gives what goes in as further outputs.
    """
    rest = model.clone()
    graph = rest.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    outputs = [value for value in graph.outputs if value.name not in {target for _, target in ends}]
    for _, target in ends:
        old = values[target]
        node = old.producer()
        assert node is not None
        read = ir.Value(name=target, shape=old.shape, type=old.type or ir.TensorType(ir.DataType.FLOAT))
        old.name = f"{target}.optical"
        old.replace_all_uses_with(read, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        graph.inputs.append(read)
        values[target] = read
    for source, _ in ends:
        value = values[source]
        if value.producer() is not None and value not in outputs:
            outputs.append(value)
    graph.outputs[:] = [value for value in outputs if value.producer() is not None]
    _drop_unread(graph)
    return rest


def segments(rest: ir.Model, ends: Sequence[tuple[str, str]]) -> tuple[Segment | None, ...]:
    """Make every stage runnable.

    Args:
        rest: From ``cut``.
        ends: As there.

    Returns:
        One more than there are passes; None where a stage has nothing to do.

    Raises:
        BuildError: If a stage is no valid graph.
    """
    stages = _stages(rest.graph, ends)
    return tuple(_segment(rest, stages, stage) for stage in range(len(ends) + 1))


def _stages(graph: ir.Graph, ends: Sequence[tuple[str, str]]) -> dict[ir.Value, int]:
    """Give the stage after which each value is known."""
    known = dict.fromkeys(graph.inputs, 0)
    known |= dict.fromkeys(graph.initializers.values(), 0)
    for stage, (_, target) in enumerate(ends, start=1):
        known |= {value: stage for value in graph.inputs if value.name == target}
    for node in graph:
        stage = max((known.get(value, 0) for value in _reads(node)), default=0)
        known |= dict.fromkeys(node.outputs, stage)
    return known


def _segment(rest: ir.Model, known: dict[ir.Value, int], stage: int) -> Segment | None:
    graph = rest.graph
    nodes = [node for node in graph if node.outputs and known[node.outputs[0]] == stage]
    inside = {value for node in nodes for value in node.outputs}
    later = {v for node in graph if node not in nodes for v in _reads(node)} | set(graph.outputs)
    outputs = [value for node in nodes for value in node.outputs if value in later]
    if not outputs:
        return None
    reads = dict.fromkeys(value for node in nodes for value in _reads(node))
    inputs = [v for v in reads if v not in inside and not v.is_initializer()]
    part = ir.convenience.extract(graph, inputs, outputs)
    run = evaluate(ir.Model(part, ir_version=rest.ir_version, functions=tuple(rest.functions.values())))
    return Segment(_names(inputs), _names(outputs), run)


def _reads(node: ir.Node) -> Iterable[ir.Value]:
    """Give what a node reads, and what the graphs inside it capture."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            inner = attribute.as_graph()
            for one in inner.all_nodes():
                yield from (v for v in one.inputs if v is not None and v.graph is node.graph)


def _names(values: Iterable[ir.Value]) -> tuple[str, ...]:
    return tuple(str(value.name) for value in values)


def _drop_unread(graph: ir.Graph) -> None:
    """Remove nodes and constants that only fed the weights of optical nodes."""
    for node in reversed(list(graph)):
        if all(not value.uses() and not value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
