"""The error budget: how far every layer is from ideal optics, for each cause alone and for all together.

Each layer gets the input that it would get if everything before it were ideal, so that a figure belongs to
one layer and one cause::

    error = |y - y_ideal| / |y_ideal|       (2-norms over all samples)

Independent causes add as squares; where "all together" is larger, they are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...export.artifact import Array, Feed
from .program import read_program
from .session import Simulation
from .vary import Adjust, alone, as_it_is, present

ALL = "all together"


@dataclass(frozen=True)
class LayerBudget:
    """One optical layer."""

    layer: str
    errors: Mapping[str, float]
    """Relative error by cause, ``ALL`` last."""


def error_budget(
    compiled: Path, feed: Feed, *, adjust: Adjust = as_it_is, seed: int = 0
) -> tuple[LayerBudget, ...]:
    """Take the budget of a program.

    Args:
        compiled: The program.
        feed: Samples to take it on.
        adjust: What differs from the device.
        seed: Of the noise.

    Returns:
        One entry for each optical layer, in the order of the graph.

    Raises:
        RunError: If the program is damaged.
        UsageError: If the samples do not fit.
    """
    device = read_program(compiled).system
    ideal = Simulation(compiled, system=replace(device, ideal=True))
    values = ideal.trace(feed)
    conditions = Simulation(compiled, adjust=adjust).conditions()
    causes = dict.fromkeys(cause for known in conditions for cause in present(known))
    runs = {cause: _chained(adjust, alone(cause)) for cause in causes} | {ALL: adjust}
    simulated = {cause: Simulation(compiled, adjust=change, seed=seed) for cause, change in runs.items()}
    return tuple(
        LayerBudget(
            step.layer.name,
            {
                cause: _distance(one.layer(number, values[step.source]), values[step.target])
                for cause, one in simulated.items()
            },
        )
        for number, step in enumerate(ideal.program.steps)
    )


def _chained(first: Adjust, then: Adjust) -> Adjust:
    return lambda known: then(first(known))


def _distance(answer: Array, wanted: Array) -> float:
    size = float(np.linalg.norm(wanted.astype(np.float64)))
    return float(np.linalg.norm(answer.astype(np.float64) - wanted)) / (size or 1.0)
