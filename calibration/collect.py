"""Run real samples through the float graph once and keep the range of every activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ..errors import BuildError, UsageError, unknown_name
from ..export.artifact import Array, Evaluator, Exported, Feed, Run
from .observers import OBSERVERS, Observer
from .placement import watched
from .ranges import Ranges
from .samples import Samples
from .scheme import QuantScheme

FEWEST = 8
"""Fewer samples than this say little about the range of an activation."""

BUDGET = 512 << 20
"""Bytes of watched activations that may be alive at once."""


def collect(
    exported: Exported,
    samples: Samples,
    scheme: QuantScheme,
    *,
    tensors: Sequence[str] | None = None,
    evaluate: Evaluator,
    progress: Callable[[int, int], None] | None = None,
    budget: int = BUDGET,
) -> Ranges:
    """Observe activations over all samples; memory is bounded by ``budget``, not by their number.

    Args:
        exported: The float network.
        samples: What to run.
        scheme: Observer and batch size.
        tensors: Names of the activations; None for all that may be quantized.
        evaluate: Makes a graph runnable.
        progress: Called with samples done and samples in all.
        budget: Bytes of activations alive at once, as far as one sample allows.

    Returns:
        Ranges of the float activations among them; infinities stay visible in their range.

    Raises:
        UsageError: If the observer is unknown or there are too few samples.
        BuildError: If an activation is NaN.
    """
    if scheme.observer not in OBSERVERS:
        raise unknown_name(kind="observer", name=scheme.observer, known=OBSERVERS)
    if samples.count < FEWEST:
        raise UsageError(f"expected at least {FEWEST} samples to calibrate, got {samples.count}; add more")
    fixed = exported.inputs[0].shape[0]
    fixed = fixed if isinstance(fixed, int) else None
    names = tuple(watched(exported.model) if tensors is None else tensors)
    watch = _Watch(scheme.observer)
    size, done = fixed or 1, 0
    runs: tuple[Run, ...] = ()
    for batch in samples.batches(fixed or scheme.batch):
        if not runs:
            size, runs = _split(exported.model, names, _first(batch, fixed or 1), evaluate, budget)
        for part in _parts(batch, fixed or size, whole=fixed is not None):
            watch.update({name: part[name] for name in names if name in part})
            for run in runs:
                watch.update(run(part))
        done += _count(batch)
        if progress is not None:
            progress(done, samples.count)
    return Ranges(watch.ranges(), samples.source, scheme.observer)


class _Watch:
    """One observer per activation."""

    def __init__(self, observer: str) -> None:
        self._make = OBSERVERS[observer]
        self._observers: dict[str, Observer] = {}
        self._infinite: dict[str, tuple[float, float]] = {}

    def update(self, arrays: Feed) -> None:
        for name, array in arrays.items():
            if array.dtype == np.float32 and array.size:
                self._see(name, array)

    def _see(self, name: str, array: Array) -> None:
        low, high = float(array.min()), float(array.max())
        if math.isnan(low) or math.isnan(high):
            raise BuildError(f"expected numbers in {name}, got NaN; look at the samples and the weights")
        if math.isinf(low) or math.isinf(high):
            before = self._infinite.get(name, (low, high))
            self._infinite[name] = (min(before[0], low), max(before[1], high))
        else:
            self._observers.setdefault(name, self._make()).update(array)

    def ranges(self) -> dict[str, tuple[float, float]]:
        return {name: o.range() for name, o in self._observers.items()} | self._infinite


def _split(
    model: ir.Model, names: Sequence[str], sample: Feed, evaluate: Evaluator, budget: int
) -> tuple[int, tuple[Run, ...]]:
    """Find how many samples fit into the budget; where one is too many, watch fewer activations at a time."""
    run = evaluate(_watching(model, names))
    sizes = {name: array.nbytes for name, array in run(sample).items()}
    if sum(sizes.values()) <= budget:
        return max(1, budget // max(1, sum(sizes.values()))), (run,)
    del run
    groups: list[list[str]] = [[]]
    for name in (n for n in names if n in sizes):
        if groups[-1] and sum(sizes[n] for n in groups[-1]) + sizes[name] > budget:
            groups.append([])
        groups[-1].append(name)
    return 1, tuple(evaluate(_watching(model, group)) for group in groups)


def _watching(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Copy a graph and make the named activations its only outputs."""
    copy = model.clone()
    graph = copy.graph
    made = {v.name: v for node in graph for v in node.outputs}
    wanted = [made[name] for name in names if name in made]
    kept = list(graph.outputs)
    graph.outputs.clear()
    graph.outputs.extend(wanted or kept)
    return copy


def _parts(batch: Feed, size: int, *, whole: bool) -> Iterator[Feed]:
    """Cut a batch into parts; ``whole`` repeats the last sample where the graph takes full parts only."""
    for start in range(0, _count(batch), size):
        part = {name: array[start : start + size] for name, array in batch.items()}
        missing = size - _count(part)
        if whole and missing:
            part = {n: np.concatenate([a, np.repeat(a[-1:], missing, 0)]) for n, a in part.items()}
        yield part


def _first(batch: Feed, size: int) -> Feed:
    return next(_parts(batch, size, whole=True))


def _count(batch: Feed) -> int:
    return len(next(iter(batch.values())))
