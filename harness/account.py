"""One ``Report`` out of everything that a walk found."""

from __future__ import annotations

from datetime import UTC, datetime

from ..export.artifact import Exported
from ..runtimes.device import Device
from ..runtimes.exhibit import Exhibit
from ..runtimes.runtime import Runtime
from .examine import Findings
from .host import tools
from .latency import summarise
from .materials import Materials
from .origin import Origin
from .result import Report
from .subject import Subject

LIBRARIES = ("fourfold", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


def account(
    exported: Exported,
    origin: Origin,
    materials: Materials,
    findings: Findings,
    device: Device,
    runtime: Runtime,
    subject: Subject,
    exhibits: tuple[Exhibit, ...],
    *,
    command: str,
    seed: int,
) -> Report:
    """Gather what is known about a bundle; sizes are filled in when its files are written."""
    calibration = materials.calibration
    return Report(
        model=exported.name,
        device=device.name,
        device_title=device.title,
        runtime=runtime.name,
        precision=exported.precision,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tools=tools(dict.fromkeys((*LIBRARIES, *([runtime.library] if runtime.library else [])))),
        facts=origin.facts,
        inputs=exported.inputs,
        outputs=exported.outputs,
        sizes={},
        history=exported.history,
        calibration=calibration.source if calibration else None,
        observer=_observer(exported, materials) if calibration else None,
        parity=findings.parity,
        accuracy=findings.accuracy,
        accuracy_note=findings.accuracy_note,
        latency=summarise(findings.latency, seed=seed) if findings.latency else None,
        latency_note=findings.latency_note,
        executed=findings.executed,
        verdicts=findings.verdicts,
        warnings=tuple(w for w in (*origin.warnings, *materials.warnings, subject.warning) if w),
        exhibits=exhibits,
        compression=exported.compression,
    )


def _observer(exported: Exported, materials: Materials) -> str:
    """Say how ranges were taken from the calibration samples."""
    light = "largest inputs; exposures of the least error"
    return light if exported.precision == "analog" else materials.scheme.observer
