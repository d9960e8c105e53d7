"""A network on its way to an optical processor, and the samples to score it on, for the optical verbs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..calibration.scheme import QuantScheme
from ..errors import UsageError
from ..export.artifact import Exported
from ..models.sources import resolve
from ..runtimes.device import Device, get_device
from .console import Narrator
from .deploy import engine_for
from .materials import Materials, gather
from .origin import Origin, declared_inputs, trace
from .steps import in_precision, rewritten

OPTICAL = "optical4f"


@dataclass(frozen=True)
class Prepared:
    """What the optical verbs work on."""

    exported: Exported
    origin: Origin
    materials: Materials
    device: Device


def optical_device(name: str, devices: Path | None) -> Device:
    """Find an optical row of devices.yaml.

    Raises:
        UsageError: If there is no such row, or its engine is another one.
    """
    device = get_device(name, devices)
    if device.runtime != OPTICAL:
        raise UsageError(
            f"expected an optical device, got {name} with the engine {device.runtime}; see `fourfold devices`"
        )
    return device


def check_free(out: Path, kind: Literal["file", "folder"], *, overwrite: bool) -> None:
    """Refuse a place that is taken, before any work.

    Raises:
        UsageError: If something is there that may not be replaced, or is of the other kind.
    """
    other = out.is_dir() if kind == "file" else out.is_file()
    if other:
        taken = "folder" if kind == "file" else "file"
        raise UsageError(f"expected a {kind} at {out}, got a {taken}; choose another -o")
    if out.exists() and not overwrite:
        raise UsageError(f"expected no {kind} at {out}, got one; use --overwrite, or another -o")


def prepare(
    model: str,
    device: Device,
    *,
    data: Path | None = None,
    eval_data: Path | None = None,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    narrator: Narrator,
) -> Prepared:
    """Bring a network to the graph that is compiled for an optical processor.

    Args:
        model: As for an export.
        device: The processor.
        data: Samples that the device is set up on; default: the model's shipped training samples.
        eval_data: Labelled samples; default: the model's shipped ones.
        weights: Trained weights in place of the shipped ones.
        input_shape: Shape of the input without the batch, where it is not declared.
        seed: Of random inputs and weights.
        narrator: Is told of every stage.

    Raises:
        UsageError: If a name or a sample is wrong.
        BuildError: If the model cannot be exported.
        VerdictError: If a step changed what the network computes.
    """
    runtime, precision = engine_for(device, None)
    source = resolve(model, input_shape=input_shape, preprocess=None)
    materials = gather(
        source,
        declared_inputs(source),
        precision,
        data=data,
        eval_data=eval_data,
        synthetic=False,
        scheme=QuantScheme(),
        seed=seed,
    )
    origin = trace(source, runtime, weights=weights, seed=seed, narrator=narrator)
    exported = rewritten(origin, runtime, materials, seed=seed, narrator=narrator)
    exported = in_precision(exported, precision, materials, runtime, device, narrator=narrator)
    return Prepared(exported, origin, materials, device)
