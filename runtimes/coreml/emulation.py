"""A package in the reference evaluator of MIL, where there is no Mac: what does it say?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import BuildError, RunError, UsageError
from ...export.artifact import Array, Feed
from ...export.quiet import quiet
from ..open_session import OpenSession
from ..runtime import Executed, Session
from ..sessions import OTHER, shares
from .account import Entry
from .face import broken, read_face

PROVIDER = "reference evaluator of MIL"


def emulated(compiled: Path) -> Session:
    """Open a package in the evaluator.

    Raises:
        RunError: If it is damaged, or not made here.
    """
    package = _Package(compiled)
    return OpenSession(package, package.face.inputs)


class _Package:
    """One package, evaluated operator by operator on this machine's processor."""

    def __init__(self, compiled: Path) -> None:
        # Only here is torch needed: a Mac opens the package without it.
        from .mil.program import load_program

        self._name = compiled.name
        self.face = read_face(compiled)
        try:
            self._program: Any = load_program(compiled)
        except (BuildError, UsageError) as error:
            raise broken(compiled.name, error) from error

    def run(self, checked: dict[str, Array]) -> Feed:
        """See ``Engine.run``."""
        try:
            with quiet():  # torch warns about kernels of its own
                answers = self._program.run(self.face.to_package(checked))
        except BuildError as error:
            message = f"expected {self._name} to evaluate, got: {error}; verify the bundle"
            raise RunError(message) from error
        return self.face.from_package(answers)

    def executed(self) -> tuple[Executed, ...]:
        """See ``Engine.executed``: what the program says, since that is what was evaluated."""
        return shares(_nodes(self.face.operators))


def _nodes(operators: Iterable[Entry]) -> Iterable[tuple[str, str]]:
    for _, precision, count in operators:
        for _ in range(count):
            yield PROVIDER, OTHER if precision == "other" else precision
