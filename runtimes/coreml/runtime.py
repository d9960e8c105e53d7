"""Core ML: iPhones, iPads and Macs.

The compiled file is a package that Xcode takes as it is; precision is what the graph says. On a Mac the
package runs in Core ML itself. Elsewhere the reference evaluator of MIL opens it: it checks conversion and
compression, not Apple's kernels, and every report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ...calibration.scheme import COREML
from ...errors import RunError, UsageError
from ...export.artifact import Compression, Exported
from ...models.spec import Preprocess
from ..device import Device
from ..exhibit import Exhibit
from ..runtime import Ask, Capabilities, Compressed, Runtime, Session
from .apple import UNITS, apple, here
from .exhibits import exhibits
from .sdk import canonical


class CoreMlRuntime:
    """Compiles packages for Core ML."""

    name = "coreml"
    library = "coremltools"
    passes: tuple[str, ...] = ()
    capabilities = Capabilities(
        opset=20,
        opsets=(13, 25),
        precisions=("fp16", "fp32", "int8"),
        qdq=COREML,
        compressions=("int8", "int4"),
        control_flow={"If": "yes", "Loop": "partly", "Scan": "yes"},
        attention="partly",
        fft="no",
        dynamic_shapes="partly",
        notes={
            "Loop": "it may not gather an output of every step",
            "attention": "without a cache of keys and values",
            "fft": "there are no complex numbers; write a DFT as real matrix products",
            "dynamic_shapes": "free sizes have a largest one, and some operators need theirs fixed",
        },
    )

    def missing(self, device: Device) -> str | None:
        """See ``Runtime.missing``; packages are built on any system."""
        if device.unit not in UNITS:
            known = ", ".join(UNITS)
            return f"expected a unit that Core ML has ({known}), got {device.unit}; choose another device"
        try:
            canonical(device.target)
        except UsageError as error:
            return str(error)
        if find_spec("coremltools") is None:
            return 'coremltools is not installed here; pip install "fourfold[coreml]"'
        return None

    def cannot_run(self, device: Device) -> str | None:
        """See ``Runtime.cannot_run``: the evaluator opens what a Mac would."""
        return None

    def emulated(self, device: Device) -> str | None:
        """See ``Runtime.emulated``: the evaluator, on everything but a Mac."""
        reason = here()
        if reason is None:
            return None
        return (
            f"the reference evaluator of MIL ({reason}): conversion and compression are checked, "
            "not Apple's kernels"
        )

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """See ``Runtime.compile``: lower the graph, and save the package."""
        from .package import build

        return build(exported, device, out)

    def cannot_compress(self, device: Device, compression: Compression) -> str | None:
        """See ``Compresses.cannot_compress``."""
        from .compress import cannot_compress

        return cannot_compress(device, compression)

    def compress(self, compiled: Path, device: Device, compression: Compression, out: Path) -> Compressed:
        """See ``Compresses.compress``."""
        from .compress import compress

        return compress(compiled, compression, out)

    def make_app(
        self, exported: Exported, device: Device, preprocess: Preprocess, labels: Sequence[str], out: Path
    ) -> Path:
        """See ``MakesApps.make_app``."""
        from .app import app_package, file_name

        return app_package(exported, preprocess, labels, device, out / file_name(exported.name))

    def open_app(self, app: Path, device: Device) -> Ask:
        """See ``MakesApps.open_app``."""
        from .app_session import open_app

        return open_app(app, device)

    def open(self, compiled: Path, device: Device) -> Session:
        """See ``Runtime.open``."""
        if not compiled.exists():
            message = f"expected Core ML to open {compiled.name}, got: no such package; compile it again"
            raise RunError(message)
        if here() is None:
            return apple(compiled, device)
        from .emulation import emulated

        return emulated(compiled)

    def describe(self, compiled: Path, device: Device) -> tuple[Exhibit, ...]:
        """See ``Describes.describe``."""
        return exhibits(compiled, emulated=here() is not None)


RUNTIME: Runtime = CoreMlRuntime()
