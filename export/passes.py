"""Ordered rewrites of the graph: each is an onnx_ir pass, and each that changed something is proven.

To add a rewrite: one file in ``rules/``, one line in ``PASSES``, and one in ``COMMON`` when it pays on every
engine; otherwise the runtime that profits names it in its ``passes``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import onnx_ir as ir
import onnx_ir.passes.common as library

from ..errors import BuildError, unknown_name
from .artifact import Evaluator, Exported, Feed, Refusal, Step
from .check import settle
from .parity import Parity, batch_sizes, fresh_inputs, parity, require
from .quiet import quiet
from .rules.attention_to_matmul import AttentionToMatMul
from .rules.batch_to_columns import BatchToColumns
from .rules.dft_to_matmul import DftToMatMul
from .rules.fold_batch_norm import FoldBatchNorm
from .rules.fold_branches import FoldBranches
from .rules.fold_identity import FoldIdentity
from .rules.fold_scale import FoldScale
from .rules.integers_to_float import IntegersToFloat
from .rules.mean_to_pool import MeanToPool
from .rules.merge_parallel import MergeParallelConv, MergeParallelMatMul
from .rules.merge_transposes import MergeTransposes
from .rules.norms_on_tokens import NormsOnTokens
from .rules.scan_products import ScanProducts
from .rules.shapes import infer_shapes
from .rules.state_first import StateFirst
from .rules.static_shapes import StaticShapes
from .rules.tidy import fold_constants, simplify, tidy
from .rules.transpose_through_matmul import TransposeThroughMatMul
from .rules.unroll_scan import UnrollScan

Factory = Callable[[], ir.passes.PassBase]

PASSES: dict[str, Factory] = {
    "fold_constants": fold_constants,
    "static_shapes": StaticShapes,
    "simplify": simplify,
    "fold_batch_norm": FoldBatchNorm,
    "merge_transposes": MergeTransposes,
    "fold_scale": FoldScale,
    "fold_branches": FoldBranches,
    "fold_identity": FoldIdentity,
    "merge_parallel_conv": MergeParallelConv,
    "merge_parallel_matmul": MergeParallelMatMul,
    "transpose_through_matmul": TransposeThroughMatMul,
    "norms_on_tokens": NormsOnTokens,
    "batch_to_columns": BatchToColumns,
    "mean_to_pool": MeanToPool,
    "state_first": StateFirst,
    "scan_products": ScanProducts,
    "unroll_scan": UnrollScan,
    "attention_to_matmul": AttentionToMatMul,
    "dft_to_matmul": DftToMatMul,
    "integers_to_float": IntegersToFloat,
    "tidy": tidy,
}
"""Every rewrite by name."""

COMMON: tuple[str, ...] = (
    # Constants first: the folds below only see weights that are constants.
    "fold_constants",
    # A padding becomes a constant before simplify moves it into its convolution.
    "static_shapes",
    "simplify",
    # Branches with a BatchNormalization each become plain convolutions, their sum one convolution, and the
    # short cut a part of it; then a BatchNormalization after the sum finds that one convolution.
    "fold_batch_norm",
    "fold_branches",
    "fold_identity",
    "fold_batch_norm",
    "merge_transposes",
    # After the layout is short: a factor passes fewer operators on its way to the weights.
    "fold_scale",
    # Last: removes what the rules left unread.
    "tidy",
)
"""What every graph goes through, in this order."""

_BATCHES = (1, 3)


@runtime_checkable
class Explains(Protocol):
    """A pass that counts what it changed and says why it left a place alone."""

    changed: int
    refusals: tuple[Refusal, ...]


def rewrite(exported: Exported, names: tuple[str, ...], *, evaluate: Evaluator, seed: int = 0) -> Exported:
    """Apply rewrites in order, each on a copy, each proven on fresh inputs at two batch sizes.

    Args:
        exported: The graph to rewrite; it stays as it is.
        names: Of the rewrites, usually ``COMMON`` and what the runtime adds.
        evaluate: Runs a graph as it is written.
        seed: Of the inputs.

    Returns:
        The rewritten graph, with one step in the history for every rewrite.

    Raises:
        UsageError: If a name is not known.
        BuildError: If a rewrite cannot be applied.
        VerdictError: If a rewrite changed what the network computes.
    """
    factories = [(name, _factory(name)) for name in names]
    proof = _Proof(exported, evaluate, seed)
    for name, factory in factories:
        exported = _apply(exported, name, factory(), proof)
    return exported


def _apply(exported: Exported, name: str, rule: ir.passes.PassBase, proof: _Proof) -> Exported:
    start = time.perf_counter()
    before = exported.model.graph.num_nodes()
    model, modified = _run(rule, name, exported.model.clone())
    after = model.graph.num_nodes()
    changed = rule.changed if isinstance(rule, Explains) else max(before - after, int(modified))
    step = Step(
        name=f"rewrite: {name}",
        detail=f"{changed} places, {before} to {after} nodes" if modified else "nothing to do",
        changed=changed,
        nodes=after,
        refusals=rule.refusals if isinstance(rule, Explains) else (),
        parity=proof.check(model, name) if modified else (),
        seconds=time.perf_counter() - start,
    )
    # A pass that changed nothing hands on the graph that was proven last.
    return exported.after(step, model if modified else exported.model)


def _run(rule: ir.passes.PassBase, name: str, model: ir.Model) -> tuple[ir.Model, bool]:
    before = model.graph.num_nodes()
    try:
        with quiet():
            result = rule(model)
            # Library rewrites drop unread nodes without counting that as a change.
            modified = result.modified or result.model.graph.num_nodes() != before
            if modified:
                library.NameFixPass()(result.model)
                infer_shapes(result.model)
    except Exception as error:
        message = f"expected rewrite {name!r} to apply or to decline, got {type(error).__name__}: {error}"
        raise BuildError(message) from error
    return result.model, modified


def _factory(name: str) -> Factory:
    if name not in PASSES:
        kind = "rewrite"
        raise unknown_name(kind, name, PASSES)
    return PASSES[name]


class _Proof:
    """The answers of the graph before the next rewrite, on inputs that no other step has seen."""

    def __init__(self, exported: Exported, evaluate: Evaluator, seed: int) -> None:
        batches = batch_sizes(exported.inputs, _BATCHES)
        self._evaluate, self._inputs, self._seed = evaluate, exported.inputs, seed
        self._feeds = {b: self._draw(b, 0) for b in batches}
        self._model = exported.model
        self._answers = self._ask(exported.model)

    def check(self, model: ir.Model, name: str) -> tuple[Parity, ...]:
        try:
            answers = self._ask(model)
        except Exception as error:
            message = f"expected a graph that runs after rewrite {name!r}, got {error}; leave the rewrite out"
            raise BuildError(message) from error
        found = tuple(self._compare(b, answers[b], model) for b in self._feeds)
        require(found, f"rewrite: {name}")
        self._model = model
        # Where inputs were drawn again, so are the answers.
        self._answers = answers if not any(p.redrawn for p in found) else self._ask(model)
        return found

    def _compare(self, batch: int, answers: Feed, model: ir.Model) -> Parity:
        names = "graph before", "graph after"
        found = parity("fp32", self._answers[batch], answers, names=names, batch=batch)
        if found.ok:
            return found
        before, after = self._evaluate(self._model), self._evaluate(model)

        def draw(attempt: int) -> Feed:
            self._feeds[batch] = self._draw(batch, attempt)
            return self._feeds[batch]

        return settle(found, before, after, self._feeds[batch], draw)

    def _draw(self, batch: int, attempt: int) -> Feed:
        return fresh_inputs(self._inputs, batch=batch, seed=self._seed + 7 * batch + 7919 * attempt)

    def _ask(self, model: ir.Model) -> Mapping[int, Feed]:
        run = self._evaluate(model)
        return {batch: run(feed) for batch, feed in self._feeds.items()}
