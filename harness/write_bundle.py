"""What a bundle holds besides compiled files: graph, golden answers, report, raw latencies, manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..export.artifact import Array, Exported, Golden, Step
from ..models.spec import Preprocess
from ..runtimes.device import Device
from .bundle import (
    APP,
    COMPILED,
    GOLDEN,
    INPUT,
    MANIFEST,
    MODEL,
    OUTPUT,
    PAGE,
    REPORT,
    SAMPLES,
    Bundle,
    Manifest,
    digest,
    relative_files,
)
from .document import dump, encode, to_json
from .new_bundle import replacing
from .result import Latency, Report


def write_bundle(
    folder: Path,
    exported: Exported,
    compiled: Path,
    report: Report,
    *,
    device: Device,
    latency: Latency | None = None,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] = (),
    app: Path | None = None,
) -> Report:
    """Write everything but ``compiled/`` into the folder of a new bundle.

    Args:
        folder: What ``new_bundle`` yielded, with the compiled files in it.
        exported: The graph that was compiled.
        compiled: The file the engine opens, inside ``folder``.
        report: Everything known; its ``sizes`` are filled in here.
        device: The device it was compiled for.
        latency: The raw samples behind the report's latency.
        preprocess: From a picture to the input, when the model takes pictures.
        labels: Names of the classes.
        app: The package for an app, inside ``folder``.

    Returns:
        The report as it was written.
    """
    import onnx_ir as ir

    ir.save(exported.model, folder / MODEL)
    write_golden(folder, exported.golden)
    report = replace(report, sizes=_sizes(folder))
    _write_report(folder, report, latency)
    manifest = Manifest(
        title=report.title,
        model=report.model,
        precision=exported.precision,
        runtime=report.runtime,
        device=device,
        compiled=compiled.relative_to(folder).as_posix(),
        inputs=report.inputs,
        outputs=report.outputs,
        preprocess=preprocess,
        labels=tuple(labels),
        tools=report.tools,
        history_sha256=history_digest(report.history),
        command=report.command,
        created=report.created,
        files={},
        compression=exported.compression,
        app=app.relative_to(folder).as_posix() if app else "",
        card=exported.card,
    )
    _write_manifest(folder, manifest)
    return report


def save_latency(bundle: Bundle, latency: Latency, *, seed: int = 0) -> None:
    """Put a new measurement into a bundle: raw samples, report and page; all of it or nothing.

    Args:
        bundle: The bundle that was timed.
        latency: What was measured.
        seed: Of the bootstrap.

    Raises:
        UsageError: If the folder may not be written.
        BuildError: If there is no space left.
    """
    from .latency import summarise

    report = replace(bundle.report, latency=summarise(latency, seed=seed), latency_note="")
    final = bundle.folder.absolute()
    with replacing(final) as folder:
        shutil.copytree(final, folder, dirs_exist_ok=True)
        _write_report(folder, report, latency)
        _write_manifest(folder, bundle.manifest)


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden.safetensors."""
    from safetensors.numpy import save

    tensors = {INPUT + name: np.asarray(a, order="C") for name, a in golden.inputs.items()}
    tensors |= {OUTPUT + name: np.asarray(a, order="C") for name, a in golden.outputs.items()}
    # Not save_file: its errors hide that the disk is full.
    (folder / GOLDEN).write_bytes(save(tensors))


def _write_report(folder: Path, report: Report, latency: Latency | None) -> None:
    from .page import page  # jinja2 is not needed to write anything else

    samples: dict[str, Array] = {}
    if latency is not None:
        samples[report.title] = latency.samples_ns
        bursts = np.asarray(latency.bursts, dtype=np.int64)
        np.savez_compressed(folder / SAMPLES, latency_ns=latency.samples_ns, bursts=bursts)
    (folder / REPORT).write_text(to_json(report), encoding="utf-8")
    (folder / PAGE).write_text(page([report], samples), encoding="utf-8")


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the last file of a bundle: it holds the hash of every other one."""
    files = {name: digest(folder / name) for name in relative_files(folder) if name != MANIFEST}
    (folder / MANIFEST).write_text(dump(replace(manifest, files=files)), encoding="utf-8")


def _sizes(folder: Path) -> dict[str, int]:
    shown = (f"{COMPILED}/", f"{APP}/")
    names = (n for n in relative_files(folder) if n == MODEL or n.startswith(shown))
    return {name: (folder / name).stat().st_size for name in names}


def history_digest(history: Sequence[Step]) -> str:
    """Hash what every step did, leaving out how long it took and how equal it was found."""
    done = [(s.name, s.detail, s.changed, s.nodes, s.refusals) for s in history]
    return hashlib.sha256(json.dumps(encode(tuple(done))).encode()).hexdigest()
