"""The simulated optical 4f processor as an engine.

Compiling partitions, schedules and proves; opening simulates. Nothing here was ever light: frames, latency
and energy are models, and answers carry the noise of the preset's parts.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import BuildError, UsageError
from ...export.artifact import Exported
from ..device import Device
from ..exhibit import Exhibit
from ..runtime import Capabilities, Runtime, Session
from ..sessions import reason
from .presets import System, get_system

DEFAULT_PRESET = "lcos-homodyne"
DEFAULT_BATCH = 32
"""Samples that a schedule is made for where the device's row names no batches."""


class Optical4fRuntime:
    """Compiles for, and simulates, an optical 4f processor."""

    name = "optical4f"
    library = ""
    passes: tuple[str, ...] = ()
    capabilities = Capabilities(
        opset=20,
        opsets=(7, 26),
        precisions=("analog",),
        qdq=None,
        control_flow={"If": "yes", "Loop": "yes", "Scan": "yes"},
        attention="yes",
        fft="yes",
        dynamic_shapes="yes",
    )

    def missing(self, device: Device) -> str | None:
        """See ``Runtime.missing``: a preset that is not known."""
        try:
            system_of(device)
        except UsageError as error:
            return str(error)
        return None

    def cannot_run(self, device: Device) -> str | None:
        """See ``Runtime.cannot_run``: the simulation runs everywhere."""
        return None

    def emulated(self, device: Device) -> str | None:
        """See ``Runtime.emulated``: always."""
        system = system_of(device)
        what = "mathematics without any non-ideality" if system.ideal else "the non-idealities of its parts"
        return f"a simulation of the optical passes with {what} ({system.name}); no light was involved"

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """See ``Runtime.compile``: partition, schedule, set up, and prove with ideal optics."""
        from .build import build
        from .program import save

        batch = batch_of(device)
        system = system_of(device)
        try:
            loaded = build(exported, system, batch)
        except BuildError as error:
            message = (
                f"expected the optical 4f processor to accept {exported.name}, got: {reason(error)}; "
                "change the model"
            )
            raise BuildError(message) from error
        return save(out, loaded.program, loaded.arrays, loaded.rest)

    def open(self, compiled: Path, device: Device) -> Session:
        """See ``Runtime.open``."""
        from .session import open_simulation

        return open_simulation(compiled)

    def describe(self, compiled: Path, device: Device) -> tuple[Exhibit, ...]:
        """See ``Describes.describe``: partition, schedule, modelled costs, digital baselines."""
        from .charts import charts
        from .exhibits import exhibits
        from .program import read_program

        program = read_program(compiled)
        return (*exhibits(program), *charts(program))


def system_of(device: Device) -> System:
    """Find the hardware of a device's row.

    Raises:
        UsageError: If no preset has this name.
    """
    return get_system(device.preset or DEFAULT_PRESET)


def batch_of(device: Device) -> int:
    """Give the samples that a schedule is made for."""
    return device.batches[1] if device.batches else DEFAULT_BATCH


RUNTIME: Runtime = Optical4fRuntime()
