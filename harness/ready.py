"""A bundle from disk, ready to be opened on the device it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ..errors import UnavailableError
from ..runtimes.engines import runtime_for
from ..runtimes.runtime import Runtime, Session, stand_in
from .bundle import Bundle
from .subject import Subject, subject_of


@dataclass(frozen=True)
class Ready:
    """A whole bundle, and the engine that opens it."""

    bundle: Bundle
    runtime: Runtime

    def open(self) -> Session:
        """Open the compiled file on the device.

        Raises:
            RunError: If the device refuses the file.
        """
        return self.runtime.open(self.bundle.compiled, self.bundle.device)

    def subject(self) -> Subject:
        """Give what this machine can check of the bundle."""
        b = self.bundle
        return subject_of(self.runtime, b.device, b.compiled, lambda: ir.load(b.model), precision=b.precision)


def ready(path: Path, *, on_device: bool) -> Ready:
    """Load a bundle, check its files, and find its engine.

    Args:
        path: Folder of the bundle.
        on_device: True when another machine standing in for the device is not good enough.

    Raises:
        UsageError: If the folder is not a whole, untouched bundle.
        UnavailableError: If the engine or the device is not here.
    """
    bundle = Bundle.load(path)
    runtime = runtime_for(bundle.device)
    if reason := runtime.missing(bundle.device):
        raise UnavailableError(f"{bundle.title}: {reason}")
    if on_device and (reason := stand_in(runtime, bundle.device)):
        raise UnavailableError(f"{bundle.title}: {reason}")
    return Ready(bundle, runtime)
