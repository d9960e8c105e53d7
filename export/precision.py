"""Precision written into the graph: float16 wherever the numbers seen fit into it.

A node whose values float16 cannot hold on the golden inputs stays in float32 and says so (`half_range`); so
does what ONNX defines in float32 only, and what repeats a rounding many times (`half.why_full`). A network
that chooses by its own numbers must also hold on fresh inputs, where every choice may fall differently; where
it does not, what leads to its choices stays in float32 as well (`decisions`), no more of it than is needed.

The proof rounds every tensor that is float16 (`rounded`) and sums in float32. What an engine rounds inside of
an operator is seen when the compiled artifact is checked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ..errors import BuildError
from .artifact import Evaluator, Exported, Refusal, Run, Step
from .check import check
from .decisions import PRODUCTS, before, counts, decisions, scores, streams
from .half import halve, touches_floats, why_full
from .half_range import magnitudes, out_of_range
from .parity import Parity, parity, require
from .rounded import rounded
from .rules.graph import nodes_of
from .rules.shapes import infer_shapes

FRESH = 32
"""On how many fresh inputs a network with decisions must hold, besides the golden ones."""

_Reasons = dict[str, str]
"""Why a node stays in float32, by its name."""


@dataclass(frozen=True)
class _Form:
    """Which nodes stay in float32."""

    name: str
    """In the words of a report."""
    reasons: _Reasons


@dataclass(frozen=True)
class _Attempt:
    """A graph written in one form, and what came of it."""

    form: _Form
    model: ir.Model
    halved: int
    trials: tuple[Parity, ...]
    """Equality with the float graph; the last one is the first that failed, if one did."""

    @property
    def ok(self) -> bool:
        """Say whether the form holds."""
        return all(trial.ok for trial in self.trials)

    @property
    def worst(self) -> float:
        """Give the lowest ratio of signal to noise seen, in decibel."""
        return min(trial.sqnr_db for trial in self.trials)


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
    name_and_check(model, exported.name)
    found = decisions(model)
    tried: list[_Attempt] = []
    for form in _forms(model, found, magnitudes(model, exported.golden.inputs, evaluate)):
        tried.append(_attempt(exported, model, form, evaluate, decides=bool(found)))
        if tried[-1].ok:
            break
    taken = tried[-1]
    require(taken.trials, "precision: fp16")
    refusals = _refusals(model, taken.form)
    step = Step(
        name="precision: fp16",
        detail=f"{taken.halved} nodes in float16, {len(refusals)} in float32{_tale(tried)}",
        changed=taken.halved,
        nodes=taken.model.graph.num_nodes(),
        seconds=time.perf_counter() - start,
        refusals=refusals,
        parity=_first_and_worst(taken.trials),
    )
    return exported.after(step, taken.model, precision="fp16")


def stays(model: ir.Model, peaks: Mapping[str, float]) -> dict[str, str]:
    """Say which nodes stay in float32 whatever else does, and why, by name.

    Args:
        model: The graph, with the types of all values known.
        peaks: What `magnitudes` found.
    """
    opset = model.opset_imports.get("", 0)
    reasons = {node.name or "": why for node, why in out_of_range(model, peaks).items()}
    return reasons | {node.name or "": why for node in model.graph if (why := why_full(node, opset))}


def _forms(model: ir.Model, found: Sequence[ir.Node], peaks: Mapping[str, float]) -> Iterator[_Form]:
    """Give the forms in the order in which they are tried, the one with most of float16 first.

    One that leaves no product in float16, as before an answer that is itself a decision, is float32.
    """
    always = stays(model, peaks)
    yield _Form("fp16 graph", always)
    if not found:
        return
    products = {node for node in nodes_of(model, *PRODUCTS) if (node.name or "") not in always}
    careful = scores(found) | streams(model, found)
    for count in counts(found):
        kept = careful | before(model, found[:count])
        if products and products <= kept.keys():
            return
        more = f" and all that {count} of them read" if count else ""
        name = f"fp16 graph with the scores and sums of {len(found)} decisions{more} in float32"
        yield _Form(name, {node.name or "": why for node, why in kept.items()} | always)


def _attempt(
    exported: Exported, model: ir.Model, form: _Form, evaluate: Evaluator, *, decides: bool
) -> _Attempt:
    half = model.clone()
    halved = halve(half, lambda node: (node.name or "") in form.reasons)
    trials = _trials(exported, evaluate(rounded(half)), form.name, evaluate, decides=decides)
    return _Attempt(form, half, halved, tuple(trials))


def _trials(
    exported: Exported, run: Run, name: str, evaluate: Evaluator, *, decides: bool
) -> Iterator[Parity]:
    """Compare on the golden inputs and, in a network that decides, on fresh ones, until it fails."""
    golden, names = exported.golden, ("float model", name)
    batch = next(iter(golden.inputs.values())).shape[0]
    found = parity("fp16", golden.outputs, run(golden.inputs), names=names, batch=batch)
    yield found
    if not decides or not found.ok:
        return
    reference = evaluate(exported.model)
    for seed in range(FRESH):
        (found,) = check("fp16", reference, run, exported.inputs, names=names, batches=(1,), seed=100 + seed)
        yield found
        if not found.ok:
            return


def _refusals(model: ir.Model, form: _Form) -> tuple[Refusal, ...]:
    names = (node.name or "" for node in model.graph if touches_floats(node))
    return tuple(Refusal(name, form.reasons[name]) for name in names if name in form.reasons)


def _first_and_worst(trials: tuple[Parity, ...]) -> tuple[Parity, ...]:
    """Pick what the report shows: the golden inputs, and the worst of the fresh ones where there are any."""
    fresh = trials[1:]
    return (trials[0], min(fresh, key=lambda trial: trial.sqnr_db)) if fresh else trials


def _tale(tried: Sequence[_Attempt]) -> str:
    """Tell which forms were tried, if it was more than one."""
    if len(tried) == 1:
        return ""
    seen = (f"{attempt.worst:.1f} dB, {attempt.form.name}" for attempt in tried)
    return f"; lowest ratio of signal to noise seen: {'; '.join(seen)}"


def name_and_check(model: ir.Model, name: str) -> None:
    """Give every node a name of its own, and refuse a graph in which a tensor has no type.

    Args:
        model: Changed in place.
        name: Of the network, for the error.

    Raises:
        BuildError: Naming the tensor.
    """
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
