"""Running a program: electronic stages in the reference evaluator, optical layers in the simulation."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import BuildError, RunError
from ...export.artifact import Array, Feed
from ..open_session import OpenSession
from ..runtime import Executed
from ..sessions import OTHER, check_feed, shares
from .conditions import Conditions
from .presets import System
from .program import Loaded, Program, load
from .segments import Segment, segments
from .vary import Adjust, as_it_is

if TYPE_CHECKING:
    from .passes import Optics

LIGHT = "4f (simulated)"
Layer = Callable[[Array, int], Array]
"""Computes an optical node: its input and a seed in, its output with the bias out."""


class Simulation:
    """One network on the simulated processor.

    The noise of a call is drawn anew for other inputs, and the same for the same inputs.
    """

    def __init__(
        self, compiled: Path, *, system: System | None = None, adjust: Adjust = as_it_is, seed: int = 0
    ) -> None:
        """Open a program.

        Args:
            compiled: Its JSON.
            system: Hardware to simulate instead of the program's, on the program's schedule.
            adjust: What differs from the conditions of its layers.
            seed: Of the noise.
        """
        loaded = load(compiled)
        self.program = loaded.program
        """What was compiled."""
        self._seed = seed
        self._optics = optics_of(loaded, system or loaded.program.system, adjust)
        self._layers = layers_of(loaded, self._optics)
        try:
            self._stages = segments(loaded.rest, loaded.program.ends)
        except BuildError as error:
            message = f"expected an optical program in {compiled.name}, got: {error}; compile it again"
            raise RunError(message) from error

    def run(self, checked: dict[str, Array]) -> Feed:
        """See ``Engine.run``."""
        values = self._values(checked)
        return {spec.name: np.array(values[spec.name]) for spec in self.program.outputs}

    def trace(self, feed: Feed) -> Mapping[str, Array]:
        """Run, and give every value that passes between light and electronics, by name, with the outputs.

        Raises:
            UsageError: If inputs do not fit.
        """
        return self._values(check_feed(feed, self.program.inputs))

    def _values(self, checked: Mapping[str, Array]) -> Mapping[str, Array]:
        seed = self._seed
        for array in checked.values():
            seed = zlib.crc32(np.ascontiguousarray(array).tobytes(), seed)
        return execute(self.program, self._stages, self._layers, checked, seed)

    def layer(self, number: int, x: Array) -> Array:
        """Compute one optical node alone.

        Args:
            number: Its place among the steps of the program, from 0.
            x: Its input.
        """
        return self._layers[number](x, self._seed + number)

    def conditions(self) -> tuple[Conditions, ...]:
        """Give what is simulated, layer by layer."""
        return tuple(optics.conditions() for optics in self._optics)

    def executed(self) -> tuple[Executed, ...]:
        """See ``Engine.executed``; what only moves data does not count."""
        return shares(
            (LIGHT, "analog")
            if one.optical
            else ("reference", OTHER if one.reason.startswith("moves data") else "fp32")
            for one in self.program.placements
        )


def open_simulation(
    compiled: Path, *, system: System | None = None, adjust: Adjust = as_it_is, seed: int = 0
) -> OpenSession:
    """Open a program as a session; arguments as for ``Simulation``."""
    simulation = Simulation(compiled, system=system, adjust=adjust, seed=seed)
    return OpenSession(simulation, simulation.program.inputs)


def execute(
    program: Program,
    stages: tuple[Segment | None, ...],
    layers: list[Layer],
    feed: Mapping[str, Array],
    seed: int,
) -> dict[str, Array]:
    """Run stage by stage and layer by layer; gives every value that crosses a stage."""
    values: dict[str, Array] = dict(feed)
    for number, stage in enumerate(stages):
        if stage is not None:
            values.update(stage.run({name: values[name] for name in stage.inputs}))
        if number < len(layers):
            step = program.steps[number]
            values[step.target] = layers[number](values[step.source], seed + number)
    return values


def optics_of(loaded: Loaded, system: System, adjust: Adjust) -> list[Optics]:
    """Put every layer into its place."""
    import torch

    from .passes import Optics

    return [
        Optics(step.layer, torch.from_numpy(loaded.arrays[f"{i}.kernels"]), step.setting, system, adjust)
        for i, step in enumerate(loaded.program.steps)
    ]


def layers_of(loaded: Loaded, optics: list[Optics]) -> list[Layer]:
    """Make every layer callable, with the levels and biases of the program."""
    import torch

    arrays = loaded.arrays
    return [
        with_bias(one, torch.from_numpy(arrays[f"{i}.levels"]), arrays.get(f"{i}.bias"))
        for i, one in enumerate(optics)
    ]


def with_bias(optics: Optics, levels: object, bias: Array | None) -> Layer:
    """Make a layer that takes and gives arrays, and adds its bias electronically."""
    import torch

    known = levels if isinstance(levels, torch.Tensor) else None

    def run(x: Array, seed: int) -> Array:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            y = optics.run(torch.from_numpy(np.ascontiguousarray(x)), known, generator).numpy()
        return (y if bias is None else y + bias).astype(x.dtype, copy=False)

    return run
