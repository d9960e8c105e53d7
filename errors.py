"""Errors that a user meets: one sentence each, and the exit code the command line ends with.

The sentence says what was expected, what arrived, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FourfoldError(Exception):
    """Base of every error that is reported as one sentence instead of a stack trace."""

    exit_code = 3


class VerdictError(FourfoldError):
    """A gate said no: parity, accuracy or latency."""

    exit_code = 1


class UsageError(FourfoldError):
    """A name, an option, a folder or a configuration is wrong."""

    exit_code = 2


class BuildError(FourfoldError):
    """A model could not be loaded, exported, rewritten, quantized or compiled."""

    exit_code = 3


class UnsupportedError(BuildError):
    """The engine has no form for a node of the graph: the walk was right, its verdict is no."""

    exit_code = 1


class RunError(FourfoldError):
    """The compiled network failed while running on the device."""

    exit_code = 4


class UnavailableError(FourfoldError):
    """The device, its engine or its SDK is not available here."""

    exit_code = 5


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Build the error for a name that is not known.

    Args:
        kind: What was named, for example ``"model"``.
        name: The name that arrived.
        known: The names that exist.

    Returns:
        The error, naming the nearest known names (or, when none is near, as many as can be read).
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {_some(names)}"
    return UsageError(f"expected a known {kind}, got {name!r}; {hint}")


def _some(names: list[str], most: int = 20) -> str:
    rest = f", and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + rest
