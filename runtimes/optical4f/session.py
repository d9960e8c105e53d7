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
from .presets import System
from .program import Loaded, Program, load
from .segments import Segment, segments

if TYPE_CHECKING:
    from .passes import Optics

LIGHT = "4f (simulated)"
Layer = Callable[[Array, int], Array]
"""Computes an optical node: its input and a seed in, its output with the bias out."""


class OpticalSession:
    """One network on the simulated processor.

    The noise of a call is drawn anew for other inputs, and the same for the same inputs.
    """

    def __init__(self, compiled: Path, *, system: System | None = None, seed: int = 0) -> None:
        """Open a program.

        Args:
            compiled: Its JSON.
            system: Hardware to simulate instead of the program's, on the program's schedule.
            seed: Of the noise.
        """
        loaded = load(compiled)
        self._program = loaded.program
        self._seed = seed
        self._ran = False
        self._layers: list[Layer] | None = layers_of(loaded, system or loaded.program.system)
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
        if self._layers is None:
            raise closed()
        checked = check_feed(feed, self._program.inputs)
        seed = self._seed
        for array in checked.values():
            seed = zlib.crc32(np.ascontiguousarray(array).tobytes(), seed)
        values = execute(self._program, self._stages, self._layers, checked, seed)
        self._ran = True
        return {spec.name: np.array(values[spec.name]) for spec in self._program.outputs}

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


def layers_of(loaded: Loaded, system: System) -> list[Layer]:
    """Put every layer into its place."""
    return [_layer(loaded, number, system) for number in range(len(loaded.program.steps))]


def _layer(loaded: Loaded, number: int, system: System) -> Layer:
    import torch

    from .passes import Optics

    step, arrays = loaded.program.steps[number], loaded.arrays
    optics = Optics(step.layer, torch.from_numpy(arrays[f"{number}.kernels"]), step.setting, system)
    levels = torch.from_numpy(arrays[f"{number}.levels"])
    return with_bias(optics, levels, arrays.get(f"{number}.bias"))


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
