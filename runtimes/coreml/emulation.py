"""A package in the reference evaluator of MIL, where there is no Mac: what does it say?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...errors import BuildError, RunError, UsageError
from ...export.artifact import Feed
from ...export.quiet import quiet
from ..runtime import Executed
from ..sessions import OTHER, check_feed, closed, not_run, shares
from .account import Entry
from .face import broken, read_face

PROVIDER = "reference evaluator of MIL"


class EmulatedSession:
    """One package, evaluated operator by operator on this machine's processor."""

    def __init__(self, compiled: Path) -> None:
        # Only here is torch needed: a Mac opens the package without it.
        from .mil.program import load_program

        self._name = compiled.name
        self._face = read_face(compiled)
        try:
            self._program: Any = load_program(compiled)
        except (BuildError, UsageError) as error:
            raise broken(compiled.name, error) from error
        self._ran = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._program = None

    def run(self, feed: Feed) -> Feed:
        """See ``Session.run``."""
        if self._program is None:
            raise closed()
        checked = check_feed(feed, self._face.inputs)
        try:
            with quiet():  # torch warns about kernels of its own
                answers = self._program.run(self._face.to_package(checked))
        except BuildError as error:
            message = f"expected {self._name} to evaluate, got: {error}; verify the bundle"
            raise RunError(message) from error
        self._ran = True
        return self._face.from_package(answers)

    def executed(self) -> tuple[Executed, ...]:
        """See ``Session.executed``: what the program says, since that is what was evaluated."""
        if self._program is None:
            raise closed()
        if not self._ran:
            raise not_run()
        return shares(_nodes(self._face.operators))


def _nodes(operators: Iterable[Entry]) -> Iterable[tuple[str, str]]:
    for _, precision, count in operators:
        for _ in range(count):
            yield PROVIDER, OTHER if precision == "other" else precision
