"""The verbs of ``fourfold optical``; nothing heavy is imported before a verb runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import Console
from .verbs import DEVICES, OVERWRITE, PATH, SEED, Decorate, verb

if TYPE_CHECKING:
    from .answers import Answer


@click.group()
def optical() -> None:
    """Study networks on the simulated optical 4f processor: everything here is modelled, nothing measured."""


_DEVICE = click.option("--device", default="optical-4f", show_default=True, help="An optical device.")
_WEIGHTS = click.option("--weights", type=PATH, help="Trained weights in place of the shipped ones.")
_DATA = click.option("--data", type=PATH, help="Samples to set the device up on; labels are not needed.")
_SCHEME = click.option("--scheme", help="Detection schemes, with commas between.")
_BITS = click.option("--bits", help="Of the camera's converter: 8, 4,6,8 or 2..12.")
_PHOTONS = click.option("--photons", help="Electrons at the brightest pixel: 1000 or 1e3,1e4.")
_SHIFT = click.option("--shift", help="Of the mask in its pixels: 0.5 or 0,0.5,1.")


@verb(
    optical,
    click.argument("model"),
    _DEVICE,
    _SCHEME,
    _BITS,
    _PHOTONS,
    _SHIFT,
    click.option("--seeds", default=3, show_default=True, help="Draws of the noise for each point."),
    click.option("--images", default=500, show_default=True, help="Most samples to score on."),
    _DATA,
    click.option("--eval-data", type=PATH, help="Labelled samples: folder, zip or npz."),
    _WEIGHTS,
    click.option("--input-shape", help="C,H,W where the model does not declare it."),
    click.option("-o", "--out", type=PATH, help="Also draw the sweep into this SVG file."),
    DEVICES,
    SEED,
    OVERWRITE,
)
def sweep(
    console: Console,
    *,
    model: str,
    device: str,
    scheme: str | None,
    bits: str | None,
    photons: str | None,
    shift: str | None,
    input_shape: str | None,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> Answer:
    """Simulate MODEL under every combination of schemes, bits, photons and shifts; give the error budget."""
    from . import optical_answers as answers
    from . import options as parse
    from .optical_program import check_free
    from .optical_sweep import sweep, variations

    points = variations(
        schemes=parse.names(scheme),
        bits=parse.whole_numbers(bits, "--bits"),
        photons=parse.numbers(photons, "--photons"),
        shifts=parse.numbers(shift, "--shift"),
    )
    if out is not None:
        check_free(out, "file", overwrite=overwrite)
    found = sweep(model, device, points, input_shape=parse.shape(input_shape), narrator=console, **options)
    return answers.sweep(found, out)


def _positive(name: str, help: str, default: float | None = None) -> Decorate:
    return click.option(
        name,
        type=click.FloatRange(min=0, min_open=True),
        required=default is None,
        default=default,
        show_default=default is not None,
        help=help,
    )


@verb(
    optical,
    _positive("--digital-ms", "Time of the digital computer for the batch."),
    _positive("--frames", "Camera frames of all layers, for the batch."),
    _positive("--rate", "Frames a second of one processor."),
    click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True),
    click.option("--planes", type=click.IntRange(min=1), default=1, show_default=True, help="Processors."),
    click.option("--pixels", default="1920x1080", show_default=True, help="Width x height of a frame."),
    click.option("--pixel-bits", type=click.IntRange(1, 16), default=8, show_default=True),
    click.option("--digital-w", type=click.FloatRange(min=0), default=0.0, help="Power, for energy."),
    click.option("--optical-w", type=click.FloatRange(min=0), default=0.0, help="Power, for energy."),
    click.option(
        "--share",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="Share of the digital time that light takes over (Amdahl).",
    ),
)
def claim(console: Console, *, pixels: str, **inputs: Any) -> Answer:
    """Compute what a claimed speed-up stands on: every input named, varied, and held against real cameras."""
    from . import optical_answers as answers
    from . import options as parse
    from .optical_claim import claim

    return answers.claim(claim(size=parse.plane(pixels), **inputs))


@verb(
    optical,
    click.argument("model"),
    _DEVICE,
    click.option("--layer", help="Name of an optical layer; default: the first."),
    click.option("--pass", "number", default=0, show_default=True, help="Which pass of the layer."),
    _DATA,
    _WEIGHTS,
    click.option("--input-shape", help="C,H,W where the model does not declare it."),
    click.option("-o", "--out", type=PATH, required=True, help="The folder to make."),
    DEVICES,
    SEED,
    OVERWRITE,
)
def frames(console: Console, *, model: str, device: str, input_shape: str | None, **options: Any) -> Answer:
    """Write the planes of one pass: input, mask and ideal camera frames as PNG and NPY, with a manifest."""
    from . import optical_answers as answers
    from . import options as parse
    from .optical_frames import frames

    return answers.frames(
        frames(model, device, input_shape=parse.shape(input_shape), narrator=console, **options)
    )


@verb(
    optical,
    click.argument("model"),
    _DEVICE,
    click.option("--scheme", help="Detection scheme to tune for; default: the device's."),
    click.option("--bits", type=int, help="Of the camera's converter; default: the device's."),
    click.option("--photons", type=float, help="Electrons at the brightest pixel; default: the device's."),
    click.option("--shift", type=float, help="Of the mask, in its pixels; default: the device's."),
    click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True),
    click.option("--learning-rate", type=click.FloatRange(min=0), default=3e-4, show_default=True),
    click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True),
    click.option("--data", type=PATH, help="Samples to tune on, and to set up on; no labels needed."),
    _WEIGHTS,
    click.option("--input-shape", help="C,H,W where the model does not declare it."),
    click.option("-o", "--out", type=PATH, required=True, help="The safetensors file to write."),
    DEVICES,
    SEED,
    OVERWRITE,
)
def tune(
    console: Console,
    *,
    scheme: str | None,
    bits: int | None,
    photons: float | None,
    shift: float | None,
    steps: int,
    learning_rate: float,
    input_shape: str | None,
    seed: int,
    **options: Any,
) -> Answer:
    """Fine-tune MODEL with the simulated processor in the loop, towards its own float answers."""
    from ..runtimes.optical4f.tune import TuneRecipe
    from ..runtimes.optical4f.vary import Variation
    from . import optical_answers as answers
    from . import options as parse
    from .optical_tune import tune

    found = tune(
        variation=Variation(scheme, bits, photons, shift),
        input_shape=parse.shape(input_shape),
        recipe=TuneRecipe(steps=steps, learning_rate=learning_rate, seed=seed),
        narrator=console,
        **options,
    )
    return answers.tuned(found)
