"""``optical frames``: the planes of one pass as files, for a bench and for the eye."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import unknown_name
from ..export.artifact import Array, Exported
from ..runtimes.device import Device
from ..runtimes.engines import runtime_for
from .console import Narrator, Silent
from .optical_files import write_frames
from .optical_program import check_free, optical_device, prepare


@dataclass(frozen=True)
class Written:
    """What was written."""

    folder: Path
    layer: str
    number: int
    passes: int
    """That the golden inputs fill; a schedule for more samples has more."""
    frames: int
    error: float
    """Relative error of the answers read back from ideal camera frames against the electronic node."""


def frames(
    model: str,
    device: str,
    out: Path,
    *,
    layer: str | None = None,
    number: int = 0,
    data: Path | None = None,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    devices: Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> Written:
    """Write the frames of one pass of one layer, on golden inputs.

    Args:
        model: As for an export.
        device: An optical row of devices.yaml.
        out: The folder to make.
        layer: Name of an optical node; default: the first one.
        number: Which pass, from 0.
        data: Samples that the device is set up on; default: the model's shipped training samples.
        weights: Trained weights in place of the shipped ones.
        input_shape: Shape of the input without the batch, where it is not declared.
        devices: A YAML file of rows laid over the shipped ones.
        overwrite: Write into a folder that exists.
        seed: Of random inputs and weights.
        narrator: Is told of every stage.

    Raises:
        UsageError: If there is no such layer or pass, or the folder exists.
        BuildError: If the model cannot be compiled.
    """
    from ..runtimes.optical4f.backend import Simulator
    from ..runtimes.optical4f.frames import pass_frames
    from ..runtimes.optical4f.program import load

    say = narrator or Silent()
    check_free(out, "folder", overwrite=overwrite)
    target = optical_device(device, devices)
    made = prepare(
        model, target, data=data, weights=weights, input_shape=input_shape, seed=seed, narrator=say
    )
    with tempfile.TemporaryDirectory(prefix="fourfold-") as folder, say.stage("compiling"):
        values, program = _compiled(made.exported, target, Path(folder))
        loaded = load(program)
    steps = {step.layer.name: i for i, step in enumerate(loaded.program.steps)}
    name = layer or next(iter(steps), "")
    if name not in steps:
        kind = "optical layer"
        raise unknown_name(kind, name, steps)
    step = loaded.program.steps[steps[name]]
    with say.stage(f"laying out pass {number} of {name}"):
        laid = pass_frames(loaded, steps[name], values[step.source], number)
        seen = laid.show(Simulator())
        wanted = laid.wanted()
        error = float(np.abs(laid.read(seen) - wanted).max() / (np.abs(wanted).max() or 1.0))
    with say.stage("writing"):
        write_frames(out, laid, seen, model=made.exported.name, device=device, number=number)
    return Written(out, name, number, laid.passes, len(laid.frames), error)


def _compiled(exported: Exported, target: Device, folder: Path) -> tuple[Mapping[str, Array], Path]:
    """Compile, and give what passes between light and electronics on the golden inputs in ideal optics."""
    from ..runtimes.optical4f.runtime import system_of
    from ..runtimes.optical4f.session import Simulation

    program = runtime_for(target).compile(exported, target, folder)
    ideal = replace(system_of(target), ideal=True)
    return Simulation(program, system=ideal).trace(exported.golden.inputs), program
