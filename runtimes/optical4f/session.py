"""Running a program: electronic stages in the reference evaluator, optical layers in the simulation."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from ...errors import BuildError, RunError
from ...export.artifact import Array, Feed
from ..runtime import Executed
from ..sessions import OTHER, check_feed, closed, not_run, shares
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


class OpticalSession:
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
        self._program = loaded.program
        self._seed = seed
        self._ran = False
        self._optics = optics_of(loaded, system or loaded.program.system, adjust)
        self._layers: list[Layer] | None = layers_of(loaded, self._optics)
        try:
            self._stages = segments(loaded.rest, loaded.program.ends)
        except BuildError as error:
            message = f"expected an optical program in {compiled.name}, got: {error}; compile it again"
            raise RunError(message) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._layers = None

    def run(self, feed: Feed) -> Feed:
        """See ``Session.run``."""
        values = self.trace(feed)
        return {spec.name: np.array(values[spec.name]) for spec in self._program.outputs}

    def trace(self, feed: Feed) -> Mapping[str, Array]:
        """Run, and give every value that passes between light and electronics, by name, with the outputs.

        Raises:
            UsageError: As ``run``.
        """
        if self._layers is None:
            raise closed()
        checked = check_feed(feed, self._program.inputs)
        seed = self._seed
        for array in checked.values():
            seed = zlib.crc32(np.ascontiguousarray(array).tobytes(), seed)
        values = execute(self._program, self._stages, self._layers, checked, seed)
        self._ran = True
        return values

    def layer(self, number: int, x: Array) -> Array:
        """Compute one optical node alone.

        Args:
            number: Its place among the steps of the program, from 0.
            x: Its input.
        """
        if self._layers is None:
            raise closed()
        return self._layers[number](x, self._seed + number)

    @property
    def program(self) -> Program:
        """What was compiled."""
        return self._program

    def conditions(self) -> tuple[Conditions, ...]:
        """Give what is simulated, layer by layer."""
        return tuple(optics.conditions() for optics in self._optics)

    def executed(self) -> tuple[Executed, ...]:
        """See ``Session.executed``; what only moves data does not count."""
        if self._layers is None:
            raise closed()
        if not self._ran:
            raise not_run()
        return shares(
            (LIGHT, "analog")
            if one.optical
            else ("reference", OTHER if one.reason.startswith("moves data") else "fp32")
            for one in self._program.placements
        )


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
