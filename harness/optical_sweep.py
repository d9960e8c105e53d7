"""``optical sweep``: what a simulated processor costs in accuracy, against bits, light, alignment and scheme.

Every figure is of a simulation; nothing here was measured on optical hardware.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..calibration.samples import Samples
from ..errors import UsageError
from ..export.artifact import Array, Feed, Run
from ..runtimes.optical4f.budget import LayerBudget, error_budget
from ..runtimes.optical4f.build import build
from ..runtimes.optical4f.program import save
from ..runtimes.optical4f.runtime import batch_of, system_of
from ..runtimes.optical4f.session import open_simulation
from ..runtimes.optical4f.vary import Variation
from ..runtimes.reference import evaluate
from .accuracy import logits_of, paired_accuracy
from .console import Narrator, Silent
from .examine import SCORING_BATCH
from .optical_program import Prepared, optical_device, prepare
from .result import Accuracy, Interval
from .stats import wilson

BUDGET_SAMPLES = 8
"""Samples that the error budget is taken on."""


@dataclass(frozen=True)
class Swept:
    """One point of a sweep."""

    title: str
    variation: Variation
    share: Interval
    """Simulated top-1 accuracy, the mean over seeds, with the 95 % Wilson interval of the samples."""
    by_seed: tuple[float, ...]
    """Simulated accuracy for each seed of the noise."""
    paired: Accuracy
    """Of the first seed, against float on the same samples."""


@dataclass(frozen=True)
class Sweep:
    """A whole sweep."""

    model: str
    device: str
    samples: str
    """What was scored on."""
    float_share: Interval
    """Accuracy of the float network on the same samples."""
    points: tuple[Swept, ...]
    budget: tuple[LayerBudget, ...]
    """Of the device as it is."""
    set_up_on: str = ""
    """The samples that every point was set up on."""
    warnings: tuple[str, ...] = ()
    simulated: bool = True


def variations(
    *,
    schemes: Sequence[str] = (),
    bits: Sequence[int] = (),
    photons: Sequence[float] = (),
    shifts: Sequence[float] = (),
) -> tuple[Variation, ...]:
    """Give every combination; an empty list leaves that property as the device has it."""
    grid = itertools.product(schemes or (None,), bits or (None,), photons or (None,), shifts or (None,))
    return tuple(Variation(scheme, b, light, shift) for scheme, b, light, shift in grid)


def sweep(
    model: str,
    device: str,
    points: Sequence[Variation],
    *,
    seeds: int = 3,
    images: int = 500,
    data: Path | None = None,
    eval_data: Path | None = None,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    devices: Path | None = None,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> Sweep:
    """Score a network under every variation of a simulated processor.

    Args:
        model: As for an export.
        device: An optical row of devices.yaml.
        points: What differs from the device, one point after the other.
        seeds: How often the noise is drawn anew for each point; 1 or more.
        images: Most samples that are scored, the first ones.
        data: Samples that every point is set up on; default: the model's shipped training samples.
        eval_data: Labelled samples; default: the model's shipped ones.
        weights: Trained weights in place of the shipped ones.
        input_shape: Shape of the input without the batch, where it is not declared.
        devices: A YAML file of rows laid over the shipped ones.
        seed: The first seed of the noise.
        narrator: Is told of every stage.

    Returns:
        The points in their order, and the error budget of the device as it is.

    Raises:
        UsageError: If a name is wrong, or there is nothing to score on.
        BuildError: If the model cannot be compiled.
    """
    say = narrator or Silent()
    if seeds < 1 or images < 1:
        raise UsageError(f"expected 1 or more seeds and images, got {seeds} and {images}; raise them")
    made = prepare(
        model,
        optical_device(device, devices),
        data=data,
        eval_data=eval_data,
        weights=weights,
        input_shape=input_shape,
        seed=seed,
        narrator=say,
    )
    if made.materials.evaluation is None:
        raise UsageError(f"expected labelled samples to score on, got none ({made.materials.note})")
    samples = first(made.materials.evaluation, images)
    bench = _Bench(made, samples, range(seed, seed + seeds))
    with tempfile.TemporaryDirectory(prefix="fourfold-") as folder:
        swept: list[Swept] = []
        for number, point in enumerate(points, start=1):
            with say.stage(f"simulating {number} of {len(points)}: {point.title}"):
                swept.append(bench.point(_program(made, point, Path(folder) / str(number)), point))
        with say.stage("taking the error budget"):
            feed = next(iter(samples.batches(BUDGET_SAMPLES)))
            budget = error_budget(_program(made, Variation(), Path(folder) / "device"), feed, seed=seed)
    setting = made.materials.calibration
    return Sweep(
        made.exported.name,
        device,
        samples.source.description,
        bench.float_share,
        tuple(swept),
        budget,
        setting.source.description if setting else "the golden inputs",
        made.materials.warnings,
    )


class _Bench:
    """The samples, what float answers to them, and the seeds of the noise."""

    def __init__(self, made: Prepared, samples: Samples, seeds: range) -> None:
        assert samples.labels is not None, "evaluation samples have labels"
        self.samples, self.labels, self.seeds = samples, samples.labels, seeds
        self.output = made.exported.outputs[made.exported.answering].name
        self.wanted = self._logits(evaluate(made.origin.exported.model))
        self.float_share = wilson(int((self.wanted.argmax(1) == self.labels).sum()), samples.count)

    def point(self, program: Path, point: Variation) -> Swept:
        """Score one variation with every seed."""
        found: list[Accuracy] = []
        for seed in self.seeds:
            with open_simulation(program, adjust=point.adjust, seed=seed) as session:
                logits = self._logits(session.run)
            found.append(paired_accuracy(logits, self.wanted, self.labels, self.samples.source))
        mean = sum(one.correct for one in found) / len(found)
        by_seed = tuple(one.correct / one.n for one in found)
        return Swept(point.title, point, wilson(round(mean), self.samples.count), by_seed, found[0])

    def _logits(self, run: Run) -> Array:
        return logits_of(run, self.samples, output=self.output, batch=SCORING_BATCH)


def _program(made: Prepared, point: Variation, folder: Path) -> Path:
    """Compile for a device with one thing different: scheme, bits and light decide how it is set up."""
    folder.mkdir()
    system = point.system(system_of(made.device))
    return save(folder, *build(made.exported, system, batch_of(made.device), point.adjust))


def first(samples: Samples, most: int) -> Samples:
    """Give the first samples, at most so many."""
    count = min(most, samples.count)
    if count == samples.count:
        return samples

    def batches(size: int) -> Iterator[Feed]:
        left = count
        for feed in samples.batches(size):
            yield {name: array[:left] for name, array in feed.items()}
            left -= min(left, len(next(iter(feed.values()))))
            if not left:
                return

    return replace(
        samples,
        source=replace(
            samples.source, description=f"{samples.source.description}, the first {count}", count=count
        ),
        batches=batches,
        labels=None if samples.labels is None else samples.labels[:count],
        count=count,
        digests=samples.digests[:count],
    )
