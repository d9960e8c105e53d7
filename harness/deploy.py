"""The walk: from a model's name to a verified, timed and reported bundle for one device.

::

    name, device -> source -> module -> folded -> Exported -> rewritten -> quantized -> compiled -> bundle

Read `deploy` aloud; every line of it takes the value before and returns a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..calibration.scheme import QuantScheme
from ..errors import UnavailableError, UsageError
from ..export.artifact import Compression, Exported, Precision
from ..models.sources import resolve
from ..models.spec import Card, Preprocess
from ..runtimes.device import Device, get_device
from ..runtimes.engines import runtime_for
from ..runtimes.runtime import Describes, Runtime
from .account import account
from .app_package import check_packable, with_app
from .bundle import APP, COMPILED, Bundle
from .card import card_of
from .compressing import check_compression, compiled_small
from .console import Narrator, Silent
from .examine import Budget, examine
from .materials import gather
from .new_bundle import check_free, new_bundle
from .origin import declared_inputs, trace
from .result import form_of
from .steps import in_precision, rewritten
from .subject import subject_of
from .write_bundle import write_bundle


def deploy(
    model: str,
    device: str,
    *,
    precision: Precision | None = None,
    compression: Compression | None = None,
    app: bool = False,
    out: Path = Path("out"),
    data: Path | None = None,
    eval_data: Path | None = None,
    synthetic_calibration: bool = False,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
    card: Card | None = None,
    scheme: QuantScheme | None = None,
    devices: Path | None = None,
    budget: Budget | None = None,
    overwrite: bool = False,
    seed: int = 0,
    command: str = "",
    narrator: Narrator | None = None,
) -> Bundle:
    """Export ``model`` for ``device`` and leave a verified, timed and reported bundle.

    Args:
        model: A zoo name, ``pkg.module:factory``, ``timm/NAME``, or the path of a ``.onnx`` file.
        device: A row of devices.yaml.
        precision: ``fp32``, ``fp16``, ``int8`` or ``analog``. Default: the first that the engine takes.
        compression: Stores the weights of the compiled file in fewer bits, ``int8`` or ``int4``, and computes
            as before. Default: as the graph has them.
        app: Also make the form that an app wants, where the engine has one: a picture in, a class label out.
        out: Folder that receives the bundle ``MODEL@DEVICE-PRECISION``.
        data: Calibration samples: a folder or zip of images, or an npz. Default: the model's shipped data.
        eval_data: Labelled samples to score on. Default: the model's shipped data.
        synthetic_calibration: Calibrate on seeded noise, which watermarks the report.
        weights: Trained weights to load instead of the shipped ones.
        input_shape: Shape of the input without the batch, for example (3, 224, 224); a factory needs it,
            an ONNX file where it leaves sizes free.
        preprocess: How pictures become inputs, where the model does not declare it.
        labels: Names of the classes, where the model does not declare them.
        card: Author, licence, version and description, for formats that have room for them.
        scheme: Choices of quantization.
        devices: A YAML file of rows laid over the shipped ones.
        budget: How long to measure, and which accuracy loss fails the gate.
        overwrite: Replace an existing bundle.
        seed: Of random inputs, random weights and drawn samples.
        command: What the user typed, for the manifest.
        narrator: Is told of every stage.

    Returns:
        The bundle. Its report's ``ok`` is False when a gate said no.

    Raises:
        UsageError: If a name, option or sample is wrong.
        BuildError: If the model cannot be loaded, exported, rewritten, quantized or compiled.
        VerdictError: If a step changed what the network computes.
        UnavailableError: If the device or its engine is not available here.
    """
    say = narrator or Silent()
    target = get_device(device, devices)
    runtime, precision = engine_for(target, precision)
    check_compression(runtime, target, precision, compression)
    source = resolve(model, input_shape=input_shape, preprocess=preprocess)
    source = source if labels is None else replace(source, labels=tuple(labels))
    form = form_of(precision, compression)
    title = f"{source.name}@{target.name}-{form}"
    final = check_free(out, title, overwrite=overwrite)
    inputs = declared_inputs(source)
    if app:
        check_packable(runtime, source.name, inputs, source.preprocess, source.labels)
    materials = gather(
        source,
        inputs,
        precision,
        data=data,
        eval_data=eval_data,
        synthetic=synthetic_calibration,
        scheme=scheme or QuantScheme(),
        seed=seed,
    )
    with new_bundle(out, title, overwrite=overwrite) as folder:
        origin = trace(source, runtime, weights=weights, seed=seed, narrator=say)
        exported = rewritten(origin, runtime, materials, seed=seed, narrator=say)
        exported = in_precision(exported, precision, materials, runtime, target, narrator=say)
        exported = replace(exported, card=card_of(model, source, form, card, own_weights=weights is not None))
        exported, compiled = _compiled(exported, runtime, target, compression, folder / COMPILED, say)
        package = None
        if app and (pre := origin.preprocess) is not None:
            exported, package = with_app(
                exported, compiled, runtime, target, pre, origin.labels, folder / APP, narrator=say
            )
        subject = subject_of(runtime, target, compiled, lambda: exported.model, precision=exported.precision)
        findings = examine(
            subject,
            exported,
            origin=origin,
            materials=materials,
            device=target,
            budget=budget or Budget(),
            seed=seed,
            narrator=say,
        )
        shown = runtime.describe(compiled, target) if isinstance(runtime, Describes) else ()
        report = account(
            exported, origin, materials, findings, target, runtime, subject, shown, command=command, seed=seed
        )
        write_bundle(
            folder,
            exported,
            compiled,
            report,
            device=target,
            latency=findings.latency,
            preprocess=origin.preprocess,
            labels=origin.labels,
            app=package,
        )
    return Bundle.load(final)


def _compiled(
    exported: Exported,
    runtime: Runtime,
    device: Device,
    compression: Compression | None,
    out: Path,
    say: Narrator,
) -> tuple[Exported, Path]:
    """Compile into the new folder ``out``."""
    out.mkdir()
    if compression is not None:
        return compiled_small(exported, runtime, device, compression, out, narrator=say)
    with say.stage(f"compiling with {runtime.name}"):
        return exported, runtime.compile(exported, device, out)


def engine_for(device: Device, precision: Precision | None) -> tuple[Runtime, Precision]:
    """Find the engine of a device, ready to compile in this precision, or in its first one.

    Raises:
        UnavailableError: If the engine is not built, or something it needs is missing here.
        UsageError: If the engine does not take the precision.
    """
    runtime = runtime_for(device)
    precision = precision or runtime.capabilities.precisions[0]
    if precision not in runtime.capabilities.precisions:
        raise UsageError(
            f"expected a precision that {runtime.name} takes ({', '.join(runtime.capabilities.precisions)}), "
            f"got {precision}"
        )
    if reason := runtime.missing(device):
        raise UnavailableError(f"{device.name}: {reason}")
    return runtime, precision
