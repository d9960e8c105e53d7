"""Take several steps in each iteration of a Scan.

Before, over 784 elements::

    last, y = Scan(h0, x, body(h, s): h' = f(h, s), o = g(h, s))

After, over 56 groups of 14::

    last, y = Scan(h0, Reshape(x, [56, 14, ...]), body(h, group): s1 ... s14 = Split(group),
                   h1 = f(h, s1), ..., h' = f(h13, s14), o = Concat(g(h, s1), ..., g(h13, s14)))

The operators and their order stay, and so does every number. It pays where an iteration costs much besides
its operators, as in OpenVINO. In ONNX Runtime it costs little, and what is won is lost again because the
state no longer stays in one place in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ..artifact import Refusal
from .graph import add_constant, graph_of, integer, integers, new_node, nodes_of, redirect, sizes

MOST = 16
"""Steps of an iteration: more gain little, and the graph grows with them."""


class UnrollScan(ir.passes.InPlacePass):
    """Group the steps of every Scan of the main graph, at most ``most`` in one iteration."""

    def __init__(self, most: int = MOST) -> None:
        super().__init__()
        self.most = most
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite what can be; the others stay with a reason."""
        for scan in nodes_of(model, "Scan"):
            reason = _obstacle(scan, self.most)
            if reason is not None:
                self.refusals += (Refusal(scan.name or "", reason),)
                continue
            _unroll(scan, _steps(scan, self.most))
            self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _obstacle(scan: ir.Node, most: int) -> str | None:
    """Say why a Scan has to stay as it is."""
    body, scanned = scan.attributes["body"].as_graph(), _scanned(scan)
    if any(any(integers(scan, name, ())) for name in _LAYOUT):
        return "it scans backwards or along another axis than the first"
    if any(node.attributes.get(name) for node in body for name in ("body", "then_branch", "else_branch")):
        return "its body holds another body"
    if len(body.outputs) != len(set(body.outputs)) or set(body.outputs) & set(body.inputs):
        return "its body gives one value twice, or an input as it came"
    shapes = [sizes(value) for value in (*scanned, *scan.outputs[_states(scan) :])]
    if any(shape is None or sum(not isinstance(d, int) for d in shape) > 1 for shape in shapes):
        return "more than one size of what it reads or writes is free"
    if _steps(scan, most) == 1:
        return f"its length has no divisor between 2 and {most}"
    return None


_LAYOUT = ("scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions")


def _scanned(scan: ir.Node) -> Sequence[ir.Value]:
    values = scan.inputs[_states(scan) :]
    return [value for value in values if value is not None]


def _states(scan: ir.Node) -> int:
    return len(scan.inputs) - integer(scan, "num_scan_inputs", 0)


def _length(scan: ir.Node) -> int:
    dims = sizes(_scanned(scan)[0])
    return dims[0] if dims and isinstance(dims[0], int) else 1


def _steps(scan: ir.Node, most: int) -> int:
    """Give the largest number of steps that divides the length; 1 where the length is free too."""
    length = _length(scan)
    return next((k for k in range(min(most, length), 1, -1) if length % k == 0), 1)


def _unroll(scan: ir.Node, steps: int) -> None:
    states = _states(scan)
    graph, name = graph_of(scan), scan.name or "scan"
    groups = _length(scan) // steps
    for index, value in enumerate(scan.inputs[states:]):
        target = _target((groups, steps), value)
        shape = add_constant(graph, f"{name}.groups", target)
        (grouped,) = new_node("Reshape", [value, shape], before=scan, name=f"{name}.in{index}")
        scan.replace_input_with(states + index, grouped)
    body = _repeated(scan.attributes["body"].as_graph(), states, steps)
    attributes = {"num_scan_inputs": len(scan.inputs) - states}
    made = ir.Node(
        "",
        "Scan",
        scan.inputs,
        [*ir.convenience.convert_attributes(attributes), ir.AttrGraph("body", body)],
        num_outputs=len(scan.outputs),
        name=name,
    )
    graph.insert_before(scan, made)
    for index, (old, new) in enumerate(zip(scan.outputs, made.outputs, strict=True)):
        new.name, new.type = f"{old.name}.{index}", old.type
        if index >= states:
            shape = add_constant(graph, f"{name}.steps", _target((groups * steps,), old))
            (new,) = new_node("Reshape", [new, shape], before=scan, name=f"{name}.out{index}")
        new.shape, new.type = old.shape, old.type
        redirect(old, new)
    graph.remove(scan, safe=True)


def _target(lead: tuple[int, ...], value: ir.Value | None) -> np.ndarray:
    """Give the shape of a Reshape that replaces the first axis."""
    rest = (sizes(value) or [])[1:]
    return np.array([*lead, *(d if isinstance(d, int) else -1 for d in rest)], np.int64)


def _repeated(body: ir.Graph, states: int, steps: int) -> ir.Graph:
    """Write a body that takes several steps of the given one."""
    inputs = [_like(value, value.name or "") for value in body.inputs]
    for value in inputs[states:]:
        value.shape = None if value.shape is None else ir.Shape([steps, *value.shape])
    tape = _Tape()
    slices = [tape.apart(value, steps) for value in inputs[states:]]
    carried = inputs[:states]
    kept: list[list[ir.Value]] = [[] for _ in body.outputs[states:]]
    for step in range(steps):
        now = [*carried, *(parts[step] for parts in slices)]
        answers = tape.copy(body, dict(zip(body.inputs, now, strict=True)), step)
        carried = answers[:states]
        for held, answer in zip(kept, answers[states:], strict=True):
            held.append(answer)
    outputs = [*carried, *(tape.together(answers) for answers in kept)]
    made = ir.Graph(inputs, outputs, nodes=tape.nodes, name=body.name)
    for value in tuple(body.initializers.values()):
        body.initializers.pop(value.name or "")
        made.register_initializer(value)
    return made


def _like(value: ir.Value, name: str) -> ir.Value:
    return ir.Value(name=name, shape=value.shape, type=value.type)


class _Tape:
    """The nodes of the new body, in order."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def node(self, operator: str, inputs: Sequence[ir.Value], names: Sequence[str], **axis: int) -> ir.Node:
        attributes = ir.convenience.convert_attributes(dict(axis))
        outputs = [ir.Value(name=name, type=inputs[0].type) for name in names]
        made = ir.Node("", operator, inputs, attributes, outputs=outputs, name=names[0])
        self.nodes.append(made)
        return made

    def constant(self, name: str, numbers: Sequence[int]) -> ir.Value:
        tensor = ir.tensor(np.array(numbers, np.int64), name=name)
        output = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([len(numbers)]))
        self.nodes.append(
            ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[output], name=name)
        )
        return output

    def apart(self, group: ir.Value, steps: int) -> list[ir.Value]:
        """Split a group into the slices of its steps."""
        name = group.name or ""
        ones, axis = self.constant(f"{name}.ones", [1] * steps), self.constant(f"{name}.axis", [0])
        names = [f"{name}.part{i}" for i in range(steps)]
        parts = self.node("Split", [group, ones], names, axis=0).outputs
        return [
            self.node("Squeeze", [part, axis], [f"{name}.{i}"]).outputs[0] for i, part in enumerate(parts)
        ]

    def together(self, answers: Sequence[ir.Value]) -> ir.Value:
        """Stack the answers of the steps."""
        name = answers[-1].name or ""
        axis = self.constant(f"{name}.axis", [0])
        lifted = [
            self.node("Unsqueeze", [value, axis], [f"{value.name}.lifted"]).outputs[0] for value in answers
        ]
        return self.node("Concat", lifted, [f"{name}.group"], axis=0).outputs[0]

    def copy(self, body: ir.Graph, known: Mapping[ir.Value, ir.Value], step: int) -> list[ir.Value]:
        """Copy the nodes of a body, reading ``known`` in place of its inputs; give its outputs."""
        values = dict(known)
        for node in body:
            inputs = [None if v is None else values.get(v, v) for v in node.inputs]
            outputs = [_like(v, f"{v.name}.{step}") for v in node.outputs]
            name = f"{node.name or node.op_type}.{step}"
            attributes = list(node.attributes.values())
            self.nodes.append(
                ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=name)
            )
            values.update(zip(node.outputs, outputs, strict=True))
        return [values[value] for value in body.outputs]
