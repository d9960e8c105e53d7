"""coremltools, imported when it is first needed and kept off the terminal.

It warns about every torch that it was not tested with, and off a Mac about Apple's libraries that it does not
find.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from ...errors import unknown_name
from ...export.quiet import quiet

TARGETS = {
    "iOS17": "iOS17",
    "macOS14": "iOS17",
    "iOS18": "iOS18",
    "macOS15": "iOS18",
    "iOS26": "iOS26",
    "macOS26": "iOS26",
}
"""Systems that a package can be made for; those of one year take the same programs. Before iOS 17 there are
no quantized activations."""

DEFAULT = "iOS17"
"""Where a device row names no system."""


@cache
def coremltools() -> Any:
    """Import coremltools.

    Raises:
        ImportError: If it is not installed.
    """
    with quiet():
        return import_module("coremltools")


@cache
def builder() -> Any:
    """Give the builder of MIL operators."""
    coremltools()
    with quiet():
        return import_module("coremltools.converters.mil").Builder


@cache
def mil() -> Any:
    """Give the module of MIL programs, functions and types."""
    coremltools()
    with quiet():
        return import_module("coremltools.converters.mil.mil")


def canonical(name: str) -> str:
    """Give the iOS that takes the same programs as a system.

    Raises:
        UsageError: If the system is unknown, or too old for quantized programs.
    """
    if (name or DEFAULT) not in TARGETS:
        kind = "deployment target"
        raise unknown_name(kind, name, TARGETS)
    return TARGETS[name or DEFAULT]


def target_of(name: str) -> Any:
    """Give a system as coremltools says it.

    Raises:
        UsageError: As `canonical`.
    """
    return coremltools().target[canonical(name)]
