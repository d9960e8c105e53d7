"""Which engines there are, and the one that serves a device."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING

from ..errors import FourfoldError, UsageError, unknown_name

if TYPE_CHECKING:
    from .device import Device
    from .runtime import Runtime

BUILT = ("ort", "ov", "trt", "coreml", "optical4f", "null")
"""Engines of this package: each is a module or folder beside this file that defines ``RUNTIME``."""

GROUP = "fourfold.runtimes"
"""Entry-point group through which another package adds an engine; the entry is its ``RUNTIME``."""


def runtime_names() -> tuple[str, ...]:
    """Give the names that a device row may use: of this package, and added by others."""
    return (*BUILT, *_plugins())


def get_runtime(name: str) -> Runtime:
    """Find an engine by name.

    Raises:
        UsageError: If nothing has this name, or another package's engine is broken.
    """
    if name in BUILT:
        runtime: Runtime = importlib.import_module(f".{name}", __package__).RUNTIME
        return runtime
    plugins = _plugins()
    if name in plugins:
        return _load(plugins[name])
    raise unknown_name(kind="runtime", name=name, known=runtime_names())


def runtime_for(device: Device) -> Runtime:
    """Find the engine that compiles for a device.

    Raises:
        UsageError: If its engine is unknown or broken.
    """
    return get_runtime(device.runtime)


def known_runtimes() -> dict[str, Runtime | str]:
    """Give every engine by name, or the reason why it cannot be used."""
    known: dict[str, Runtime | str] = {}
    for name in runtime_names():
        try:
            known[name] = get_runtime(name)
        except FourfoldError as error:
            known[name] = str(error)
    return known


def library_version(runtime: Runtime) -> str | None:
    """Give the installed version of the package behind an engine; None when there is no package."""
    if not runtime.library:
        return None
    try:
        return version(runtime.library)
    except PackageNotFoundError:
        return None


def _plugins() -> dict[str, EntryPoint]:
    """Find the engines of other packages; a name of ours or of a third package is refused."""
    plugins: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        taken = f"{__package__}.{entry.name}" if entry.name in BUILT else None
        if entry.name in plugins and plugins[entry.name].value != entry.value:
            taken = plugins[entry.name].value
        if taken:
            message = (
                f"expected each engine name once, got {entry.name!r} from {taken} and {entry.value}; "
                "uninstall one of the packages"
            )
            raise UsageError(message)
        plugins[entry.name] = entry
    return plugins


def _load(entry: EntryPoint) -> Runtime:
    from .runtime import Runtime

    try:
        found: object = entry.load()
    # Foreign code: whatever it raises on import is one reason for one engine.
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        message = f"expected entry point {entry.value} to load, got {cause}; mend the package"
        raise UsageError(message) from error
    if not isinstance(found, Runtime) or found.name != entry.name:
        message = (
            f"expected entry point {entry.value} to be a Runtime named {entry.name!r}, "
            f"got {type(found).__name__}; see fourfold.runtimes.runtime"
        )
        raise UsageError(message)
    return found
