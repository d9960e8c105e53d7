"""Which TensorRT serves a device: the one that builds ahead of time, or the one on the device itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..device import Device
from ..sessions import reason
from .cuda import find_gpu

_COMPUTE = re.compile(r"SM\d{2,3}")
_OLDEST_MAJOR = 10
"""Major version of classic TensorRT from which a network's types are its own (strongly typed)."""


@dataclass(frozen=True)
class Flavour:
    """One of the two packages."""

    module: str
    package: str
    title: str
    ahead: bool
    """True when it builds on a machine without the GPU."""


RTX = Flavour("tensorrt_rtx", "tensorrt-rtx", "TensorRT-RTX", ahead=True)
CLASSIC = Flavour("tensorrt", "tensorrt", "TensorRT", ahead=False)


@dataclass(frozen=True)
class Choice:
    """The package that builds for a device, and why it was taken."""

    flavour: Flavour
    compute: str
    """Compute capability of the device."""
    reason: str


def choose(device: Device) -> Choice | str:
    """Choose the TensorRT that can build for a device on this machine.

    Args:
        device: Its row says the compute capability.

    Returns:
        The choice, or why there is none.
    """
    if device.unit != "GPU":
        return f"expected the unit GPU for TensorRT, got {device.unit}; choose another device"
    if not _COMPUTE.fullmatch(device.compute):
        got = repr(device.compute) if device.compute else "none"
        return f"expected a compute capability such as SM89 in its row, got {got}; set the key 'compute'"
    found = _ahead(device.compute)
    return found if isinstance(found, Choice) else _on_device(device.compute, found)


def load(flavour: Flavour) -> Any:
    """Import a TensorRT; the package has no types of its own.

    Raises:
        ImportError: If it is not installed, or a library that it needs is not.
    """
    try:
        return import_module(flavour.module)
    except OSError as error:  # what a package raises whose shared library is not found
        raise ImportError(str(error)) from error


def _ahead(compute: str) -> Choice | str:
    """Choose TensorRT-RTX, or say why it does not do."""
    try:
        known = tuple(load(RTX).ComputeCapability.__members__)
    except ImportError as error:
        return f"{RTX.title} does not import here ({reason(error)}; pip install {RTX.package})"
    if compute not in known:
        sizes = ", ".join(name for name in known if _COMPUTE.fullmatch(name))
        return f"{RTX.title} builds for {sizes} only"
    return Choice(RTX, compute, f"{RTX.title} builds for {compute} without the GPU")


def _on_device(compute: str, why_not: str) -> Choice | str:
    """Choose classic TensorRT when the GPU is here, or say what is missing."""
    elsewhere = f"{CLASSIC.title} builds on a machine with that GPU: run the same command there"
    try:
        version: str = load(CLASSIC).__version__
    except ImportError as error:
        return f"{why_not}, and {CLASSIC.title} does not import here ({reason(error)}); {elsewhere}"
    if int(version.partition(".")[0]) < _OLDEST_MAJOR:
        return f"{why_not}, and {CLASSIC.title} {version} is older than {_OLDEST_MAJOR}; update it"
    gpu = find_gpu(compute)
    if isinstance(gpu, str):
        return f"{why_not}, and {gpu}; {elsewhere}"
    return Choice(CLASSIC, compute, f"{why_not}; {CLASSIC.title} builds on the {gpu.name} that is here")
