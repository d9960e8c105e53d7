"""A step of the walk: the compiled file with weights in fewer bits, compared with the one before."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import UsageError
from ..export.artifact import Compression, Exported, Precision, Step, parity_kind
from ..export.parity import Parity, parity, require
from ..runtimes.device import Device
from ..runtimes.runtime import Compressed, Compresses, Runtime
from .batches import in_batches
from .console import Narrator
from .result import SMALLER_WEIGHTS


def check_compression(
    runtime: Runtime, device: Device, precision: Precision, compression: Compression | None
) -> None:
    """Refuse, before any work, what the engine or the device cannot do.

    Raises:
        UsageError: With the reason.
    """
    if compression is None:
        return
    if not isinstance(runtime, Compresses) or compression not in runtime.capabilities.compressions:
        raise UsageError(
            f"expected an engine that stores weights in {compression} by themselves, got {runtime.name}; "
            "leave the compression out, or export in --precision int8"
        )
    if precision == "int8":
        raise UsageError(
            f"expected float weights to store in {compression}, got --precision int8, whose weights are "
            "integers already; choose one of the two"
        )
    if why := runtime.cannot_compress(device, compression):
        raise UsageError(why)


def compiled_small(
    exported: Exported,
    runtime: Runtime,
    device: Device,
    compression: Compression,
    out: Path,
    *,
    narrator: Narrator,
) -> tuple[Exported, Path]:
    """Compile into ``out`` with weights in fewer bits; the step goes into the history.

    Raises:
        BuildError: If the engine refuses the graph, or no weight can be stored so.
        VerdictError: If the network no longer resembles the one before.
    """
    assert isinstance(runtime, Compresses), "checked before any work"
    with TemporaryDirectory(dir=out.parent) as plain:
        with narrator.stage(f"compiling with {runtime.name}"):
            whole = runtime.compile(exported, device, Path(plain))
        started = time.perf_counter()
        with narrator.stage(f"compressing weights to {compression}"):
            made = runtime.compress(whole, device, compression, out)
            checked = _compared(exported, runtime, device, (whole, made.path), compression)
    require((checked,), SMALLER_WEIGHTS)
    seconds = time.perf_counter() - started
    step = Step(SMALLER_WEIGHTS, _detail(made), made.weights, None, seconds, made.kept, (checked,))
    return replace(exported.after(step, exported.model), compression=compression), made.path


def _compared(
    exported: Exported, runtime: Runtime, device: Device, files: tuple[Path, Path], compression: Compression
) -> Parity:
    feed = exported.golden.inputs
    with runtime.open(files[0], device) as before, runtime.open(files[1], device) as after:
        runs = (in_batches(session.run, exported.inputs, device) for session in (before, after))
        answers = tuple(run(feed) for run in runs)
    batch = next(iter(feed.values())).shape[0]
    kind = parity_kind(exported.precision, compression)
    return parity(
        kind, answers[0], answers[1], names=("compiled", "compiled with smaller weights"), batch=batch
    )


def _detail(made: Compressed) -> str:
    before, after = (size / 1e6 for size in made.sizes)
    return f"{made.weights} weights in fewer bits: {before:.3g} MB become {after:.3g} MB"
