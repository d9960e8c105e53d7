"""The two steps of the walk that change the graph: rewriting it, and writing a precision into it."""

from __future__ import annotations

from dataclasses import replace

from ..calibration.collect import collect
from ..calibration.qdq import quantize
from ..export.artifact import Exported, Precision
from ..export.passes import COMMON, rewrite
from ..export.precision import to_fp16
from ..runtimes.device import Device
from ..runtimes.reference import evaluate
from ..runtimes.runtime import Runtime
from .console import Narrator
from .examine import golden_samples
from .materials import Materials
from .origin import Origin


def rewritten(
    origin: Origin, runtime: Runtime, materials: Materials, *, seed: int, narrator: Narrator
) -> Exported:
    """Rewrite the graph for the engine; the golden inputs become real samples where there are some.

    Raises:
        VerdictError: If a rewrite changed what the network computes.
    """
    with narrator.stage("rewriting the graph"):
        exported = rewrite(origin.exported, COMMON + runtime.passes, evaluate=evaluate, seed=seed)
    return replace(exported, golden=golden_samples(exported, materials.real, origin.reference))


def in_precision(
    exported: Exported,
    precision: Precision,
    materials: Materials,
    runtime: Runtime,
    device: Device,
    *,
    narrator: Narrator,
) -> Exported:
    """Write a precision into a float32 graph; light has no form in a graph, only samples to set it up on.

    Raises:
        UsageError: If the calibration samples do not fit the network.
        VerdictError: If the graph in that precision no longer resembles the float one.
    """
    if precision == "int8":
        return _quantized(exported, materials, runtime, device, narrator=narrator)
    if precision == "fp16":
        with narrator.stage("writing float16 into the graph"):
            return to_fp16(exported, evaluate=evaluate)
    samples = materials.calibration if precision == "analog" else None
    return replace(exported, precision=precision, seen=samples.batches if samples else None)


def _quantized(
    exported: Exported, materials: Materials, runtime: Runtime, device: Device, *, narrator: Narrator
) -> Exported:
    """See the calibration samples once, then write Q/DQ in the engine's style."""
    samples, style = materials.calibration, runtime.capabilities.style_for(device)
    assert samples is not None, "int8 always has calibration samples"
    assert style is not None, "an engine that takes int8 has a style"
    with narrator.stage(f"calibrating on {samples.count} samples"):
        ranges = collect(exported, samples, materials.scheme, evaluate=evaluate)
    with narrator.stage(f"quantizing ({style.name})"):
        return quantize(exported, ranges, style, materials.scheme, evaluate=evaluate)
