"""A bundle from disk, opened on the device it was made for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UnavailableError
from ..runtimes.engines import runtime_for
from ..runtimes.runtime import Session
from .bundle import Bundle


@contextmanager
def opened(path: Path, *, on_device: bool) -> Generator[tuple[Bundle, Session]]:
    """Load a bundle, check its files, and open it.

    Args:
        path: Folder of the bundle.
        on_device: True when another machine standing in for the device is not good enough.

    Raises:
        UsageError: If the folder is not a whole, untouched bundle.
        UnavailableError: If the engine or the device is not here.
        RunError: If the device refuses the file.
    """
    bundle = Bundle.load(path)
    runtime = runtime_for(bundle.device)
    if reason := runtime.missing(bundle.device):
        raise UnavailableError(f"{bundle.title}: {reason}")
    if on_device and (reason := bundle.device.elsewhere()):
        raise UnavailableError(f"{bundle.title}: {reason}")
    with runtime.open(bundle.compiled, bundle.device) as session:
        yield bundle, session
