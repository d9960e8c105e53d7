"""What a person sees while something runs: stages on stderr, one document on stdout.

On a terminal a stage is a spinner; elsewhere it is one line, with a heartbeat every ten seconds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

HEARTBEAT_SECONDS = 10.0


class Narrator(Protocol):
    """Is told what is going on."""

    def stage(self, text: str) -> AbstractContextManager[None]:
        """Announce a stage; the context ends with it."""
        ...

    def note(self, text: str) -> None:
        """Say one thing that a person should know."""
        ...


class Silent:
    """Says nothing; the default of every verb when called from Python."""

    @contextmanager
    def stage(self, text: str) -> Generator[None]:
        """Do nothing but run the stage."""
        yield

    def note(self, text: str) -> None:
        """Say nothing."""


class Console:
    """Writes to stderr; quiet shows notes of failures only, verbose adds what libraries log."""

    def __init__(self, *, quiet: bool = False, colour: bool | None = None) -> None:
        self.quiet = quiet
        terminal = sys.stderr.isatty()
        self.live = terminal and not quiet
        self.colour = (terminal and "NO_COLOR" not in os.environ) if colour is None else colour

    @contextmanager
    def stage(self, text: str) -> Generator[None]:
        """Show a spinner on a terminal, or one line with its time and a heartbeat."""
        if self.quiet:
            yield
            return
        started = time.monotonic()
        with self._spinner(text) if self.live else self._heartbeat(text, started):
            yield
        self._line(f"{text} ({time.monotonic() - started:.1f} s)")

    def note(self, text: str) -> None:
        """Write one line."""
        if not self.quiet:
            self._line(text)

    def error(self, text: str) -> None:
        """Write one error sentence, also when quiet."""
        self._line(f"\x1b[31merror:\x1b[0m {text}" if self.colour else f"error: {text}")

    @contextmanager
    def _spinner(self, text: str) -> Generator[None]:
        from rich.console import Console as Rich

        with Rich(stderr=True, no_color=not self.colour).status(text):
            yield

    @contextmanager
    def _heartbeat(self, text: str, started: float) -> Generator[None]:
        done = threading.Event()

        def beat() -> None:
            while not done.wait(HEARTBEAT_SECONDS):
                self._line(f"{text} ... {time.monotonic() - started:.0f} s")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
