"""Keep what a library says about itself off the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Generator
from contextlib import redirect_stderr, redirect_stdout


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Drop prints, log messages and warnings of the library called inside; errors pass."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
