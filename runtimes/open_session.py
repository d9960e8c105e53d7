"""A session out of what an engine does: its inputs are checked, and it ends, in one place for all engines."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from ..export.artifact import Array, Feed
from ..models.spec import TensorSpec
from .runtime import Executed
from .sessions import check_feed, closed, not_run


class Engine(Protocol):
    """What an engine does with one open network; never asked before anything was checked."""

    def run(self, checked: dict[str, Array]) -> Feed:
        """Run one inference on inputs that fit.

        Raises:
            RunError: If the device fails.
        """
        ...

    def executed(self) -> tuple[Executed, ...]:
        """Say what the last inference ran."""
        ...


class OpenSession:
    """A ``Session`` of an engine."""

    def __init__(self, engine: Engine, inputs: tuple[TensorSpec, ...]) -> None:
        self._engine: Engine | None = engine
        self._inputs = inputs
        self._ran = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine = None

    def run(self, feed: Feed) -> Feed:
        """See ``Session.run``."""
        if self._engine is None:
            raise closed()
        answers = self._engine.run(check_feed(feed, self._inputs))
        self._ran = True
        return answers

    def executed(self) -> tuple[Executed, ...]:
        """See ``Session.executed``."""
        if self._engine is None:
            raise closed()
        if not self._ran:
            raise not_run()
        return self._engine.executed()
