"""The walk of ``fourfold export`` with its samples at hand: graphs for several engines, and their answers.

Axis letters: N images.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fourfold.calibration.samples import Samples, open_samples
from fourfold.calibration.scheme import QuantScheme
from fourfold.export.artifact import Array, Exported, Precision, Run
from fourfold.harness.console import Silent
from fourfold.harness.examine import golden_samples
from fourfold.harness.materials import Materials, gather
from fourfold.harness.origin import Origin, declared_inputs, trace
from fourfold.harness.stats import agreement, sqnr_db
from fourfold.harness.steps import in_precision, rewritten
from fourfold.models.sources import OnnxFile
from fourfold.models.spec import ModelSpec
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import runtime_for
from fourfold.runtimes.reference import evaluate

COREML, ORT = "iphone-15", "cpu-ort"
BATCH = 25


@dataclass(frozen=True)
class Walk:
    """One network with the samples that calibrate it and those that it is asked about."""

    origin: Origin
    materials: Materials
    images: Samples

    def graph(self, device: str, precision: Precision) -> Exported:
        """Write a precision as an engine wants it; calibration sees the same samples for every engine.

        Golden are some of the samples that the network is asked about, as with ``--eval-data``.
        """
        row = get_device(device)
        runtime, say = runtime_for(row), Silent()
        exported = rewritten(self.origin, runtime, self.materials, seed=0, narrator=say)
        golden = golden_samples(exported, self.images, self.origin.reference)
        exported = replace(exported, golden=golden)
        return in_precision(exported, precision, self.materials, runtime, row, narrator=say)

    def source(self) -> Array:
        """Give the answers (N, ...) of the source in float."""
        return self._asked(evaluate(self.origin.exported.model))

    def written(self, graph: Exported) -> Array:
        """Give the answers (N, ...) of a graph as it is written, in ONNX Runtime without optimizations."""
        return self._asked(evaluate(graph.model))

    def compiled(self, graph: Exported, device: str) -> Array:
        """Compile a graph for a device, open the file, and give its answers (N, ...)."""
        row = get_device(device)
        runtime = runtime_for(row)
        with tempfile.TemporaryDirectory() as folder:
            compiled = runtime.compile(graph, row, Path(folder))
            with runtime.open(compiled, row) as session:
                return self._asked(session.run)

    def _asked(self, run: Run) -> Array:
        exported = self.origin.exported
        output = exported.outputs[exported.answering].name
        return np.concatenate([np.array(run(feed)[output]) for feed in self.images.batches(BATCH)])


def walk(
    source: ModelSpec | OnnxFile,
    *,
    data: Path | None,
    eval_data: Path,
    precision: Precision = "int8",
    count: int | None = None,
) -> Walk:
    """Export one network, and open its samples.

    Args:
        source: The network.
        data: What calibrates it; None for what the package ships.
        eval_data: What it is asked about.
        precision: That of the graphs.
        count: Most samples to ask about, drawn with a fixed seed; None for all.
    """
    materials = gather(
        source,
        declared_inputs(source),
        precision,
        data=data,
        eval_data=None,
        synthetic=False,
        scheme=QuantScheme(),
        seed=0,
    )
    origin = trace(source, runtime_for(get_device(COREML)), weights=None, seed=0, narrator=Silent())
    asked = open_samples(
        eval_data, origin.exported.inputs, source.preprocess, limit=count, labels=source.labels
    )
    return Walk(origin, materials, asked)


def alike(one: Array, other: Array) -> dict[str, float]:
    """Count the images that two sets of logits (N, classes) put into one class."""
    first, second = one.argmax(1), other.argmax(1)
    return {
        "different": int((first != second).sum()),
        "agreement": agreement(first, second),
        "sqnr_db": round(min(sqnr_db(one, other), 999.0), 1),
    }
