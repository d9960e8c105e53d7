"""The command line: one verb per function of this room; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .. import __version__
from ..errors import FourfoldError
from .console import Console
from .optical_cli import optical
from .verbs import BUNDLES, DEVICES, OVERWRITE, PATH, SEED, seconds_option, verb

if TYPE_CHECKING:
    from .answers import Answer

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fourfold")
def cli() -> None:
    r"""Take one model to verified, timed and reported artifacts for every device.

    \b
    Exit codes: 0 ok · 1 a gate said no · 2 usage · 3 load, export or compile failed
                4 failed on the device · 5 device or SDK not here · 130 interrupted
    """


@verb(cli, click.option("--table", is_flag=True, help="Count each; say what folds and what was exported."))
def models(console: Console, *, table: bool) -> Answer:
    """List the zoo: parameters, inputs, weights, paper, how each was checked."""
    from . import answers
    from .listing import models

    if not table:
        return answers.table(models())
    from .zoo import rows, zoo

    with console.stage("counting every network"):
        entries = zoo()
    return answers.table(rows(entries))


@verb(cli, DEVICES)
def devices(console: Console, *, devices: Path | None) -> Answer:
    """List the devices, and what is missing here for each."""
    from . import answers
    from .listing import devices as rows

    return answers.table(rows(devices))


@verb(cli, DEVICES)
def doctor(console: Console, *, devices: Path | None) -> Answer:
    """Show this host, the installed engines, what each can do, and what is missing."""
    from . import answers
    from .listing import doctor

    return answers.doctor(doctor(devices))


@verb(
    cli,
    click.argument("model"),
    click.option("--device", required=True, help="A row of devices.yaml; see `fourfold devices`."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "fp16", "int8", "analog"]),
        help="What numbers are made of; default: the first that the device's engine takes.",
    ),
    click.option(
        "--compress",
        "compression",
        type=click.Choice(["int8", "int4"]),
        help="Store weights in fewer bits than they are computed with, where the engine can.",
    ),
    click.option("--data", type=PATH, help="Real samples to calibrate and to check on: folder, zip or npz."),
    click.option("--eval-data", type=PATH, help="Labelled samples to score on: folder, zip or npz."),
    click.option(
        "--synthetic-calibration",
        is_flag=True,
        help="Calibrate on seeded noise; every report is marked.",
    ),
    click.option("--observer", help="How ranges are taken from calibration data; default minmax."),
    click.option("--weights", type=PATH, help="Trained weights: .safetensors or a torch checkpoint."),
    click.option("--input-shape", help="C,H,W of a factory's or an ONNX file's input, without the batch."),
    click.option("--mean", help="Per channel, of pixels scaled to 0..1; default 0."),
    click.option("--std", help="Per channel, of pixels scaled to 0..1; default 1."),
    click.option(
        "--resize", type=click.Choice(["exact", "stretch", "crop"]), help="How a picture is fitted."
    ),
    click.option("--labels", type=PATH, help="Names of the classes: a text file with one a line."),
    click.option("--app", is_flag=True, help="Also make what an app wants: a picture in, a label out."),
    click.option("--author", default="", help="Written into packages that name one."),
    click.option("--licence", default="", help="Likewise."),
    click.option("--model-version", default="", help="Likewise; default: from the hash of the graph."),
    click.option("--description", default="", help="Likewise, one line; default: name, precision, paper."),
    click.option("-o", "--out", type=PATH, default=Path("out"), show_default=True, help="For the bundle."),
    click.option(
        "--max-drop",
        type=click.FloatRange(min=0),
        default=1.0,
        show_default=True,
        help="Accuracy in points that may be lost.",
    ),
    seconds_option(4.0),
    DEVICES,
    SEED,
    OVERWRITE,
)
def export(
    console: Console,
    *,
    model: str,
    device: str,
    seconds: float,
    max_drop: float,
    input_shape: str | None,
    mean: str | None,
    std: str | None,
    resize: str | None,
    observer: str | None,
    labels: Path | None,
    author: str,
    licence: str,
    model_version: str,
    description: str,
    **options: Any,
) -> Answer:
    """Export MODEL for a device: fold, rewrite, quantize, compile, verify, time, report.

    MODEL is a zoo name, pkg.module:factory, timm/NAME, or the path of a .onnx file. A factory is your own
    code and is run.
    """
    from ..models.spec import Card
    from . import answers
    from . import options as parse
    from .deploy import deploy
    from .examine import Budget

    bundle = deploy(
        model,
        device,
        input_shape=parse.shape(input_shape),
        preprocess=parse.preprocess(mean=mean, std=std, resize=resize),
        labels=parse.labels(labels),
        card=Card(author, licence, model_version, description),
        scheme=parse.scheme(observer),
        budget=Budget(seconds=seconds, max_drop=max_drop),
        command=shlex.join(["fourfold", *sys.argv[1:]]),
        narrator=console,
        **options,
    )
    return answers.bundle(bundle)


@verb(
    cli,
    click.argument("bundle", type=PATH),
    click.option("--golden", type=PATH, help="Of a package: inputs and answers, safetensors or npz."),
    click.option("--trace", multiple=True, metavar="NAME", help="Of a package: tell about a tensor."),
    click.option("--save-trace", type=PATH, help="Of a package: write the traced tensors as npz."),
    SEED,
)
def verify(
    console: Console,
    *,
    bundle: Path,
    golden: Path | None,
    trace: tuple[str, ...],
    save_trace: Path | None,
    seed: int,
) -> Answer:
    """Check a bundle's hashes and golden answers, or evaluate any Core ML package.

    A bundle needs neither torch nor the source model. A .mlpackage is evaluated operator by operator, which
    checks conversion and compression, not Apple's kernels.
    """
    from . import answers

    if not bundle.suffix.startswith(".ml") and not (bundle / "Manifest.json").is_file():
        from .verify import verify

        if golden or trace or save_trace:
            message = "expected a .mlpackage with --golden, --trace or --save-trace, got a bundle"
            raise click.UsageError(message)
        return answers.verification(verify(bundle, narrator=console))
    from .verify_package import verify_package

    found = verify_package(
        bundle, golden=golden, trace=trace, save_trace=save_trace, seed=seed, narrator=console
    )
    return answers.package(found)


@verb(
    cli,
    BUNDLES,
    seconds_option(4.0),
    click.option("--save", is_flag=True, help="Write it into the bundle."),
    SEED,
)
def bench(console: Console, *, bundles: tuple[Path, ...], **options: Any) -> Answer:
    """Time bundles on their device, each by itself; rank them with compare."""
    from . import answers
    from .bench import bench

    return answers.timings(bench(bundles, narrator=console, **options))


@verb(
    cli,
    BUNDLES,
    seconds_option(6.0),
    click.option(
        "--margin",
        type=click.FloatRange(min=0, max=1),
        default=0.02,
        show_default=True,
        help="Relative difference that counts as none.",
    ),
    SEED,
)
def compare(console: Console, *, bundles: tuple[Path, ...], **options: Any) -> Answer:
    """Compare bundles with the first one: interleaved, paired, with intervals and a verdict."""
    from . import answers
    from .compare import compare

    return answers.comparisons(compare(bundles, narrator=console, **options))


@verb(
    cli,
    BUNDLES,
    click.option("-o", "--out", type=PATH, default=Path("report.html"), show_default=True, help="The page."),
    click.option("--compare", "compared", is_flag=True, help="Also time them interleaved against the first."),
    seconds_option(6.0),
    OVERWRITE,
)
def report(console: Console, *, bundles: tuple[Path, ...], **options: Any) -> Answer:
    """Put bundles side by side on one self-contained page."""
    from . import answers
    from .report import report

    return answers.written(report(bundles, narrator=console, **options))


cli.add_command(optical)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with the exit code of what happened."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    try:
        cli.main(args=given, prog_name="fourfold", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        console.error("interrupted; nothing half-made was left behind")
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        console.error(error.format_message())
        sys.exit(error.exit_code)
    except FourfoldError as error:
        console.error(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(_unexpected(console, error, verbose="-v" in given or "--verbose" in given))
    sys.exit(0)


def _unexpected(console: Console, error: Exception, *, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        console.error("expected room to write, got a full disk; free some space and run it again")
    else:
        where = "" if verbose else "; run it again with -v to see where"
        first = str(error).partition("\n")[0]
        console.error(f"unexpected {type(error).__name__}: {first}{where}")
    return FourfoldError.exit_code


class _Interrupted(KeyboardInterrupt):
    """An interruption that Python does not repeat at exit.

    Python ends by SIGINT, not by our exit code, when a plain KeyboardInterrupt ever left an ``exec`` of text,
    and the exporter runs much of its work inside one.
    """


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Turn Ctrl-C and a polite kill into the interruption that every step cleans up after."""
    raise _Interrupted
