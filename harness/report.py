"""``report``: several bundles side by side on one self-contained page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .bundle import Bundle
from .compare import compare
from .console import Narrator, Silent
from .page import page


def report(
    bundles: Sequence[Path],
    *,
    out: Path,
    overwrite: bool = False,
    compared: bool = False,
    seconds: float = 6.0,
    narrator: Narrator | None = None,
) -> Path:
    """Write one page that compares bundles.

    Args:
        bundles: Folders of bundles.
        out: The page.
        overwrite: Replace an existing file.
        compared: Also time every bundle against the first one, interleaved, and show the verdicts.
        seconds: Least duration of each comparison.
        narrator: Is told of every stage.

    Returns:
        The page.

    Raises:
        UsageError: If there is no bundle, a folder is not a whole, untouched bundle, or the page exists.
    """
    if not bundles:
        message = "expected one or more bundles, got none; name the folders that export left"
        raise UsageError(message)
    if out.is_dir() or (out.exists() and not overwrite):
        raise UsageError(f"expected {out} to be free, got an existing one; choose another or add --overwrite")
    say = narrator or Silent()
    loaded = [Bundle.load(path) for path in bundles]
    comparisons = compare(bundles, seconds=seconds, narrator=say) if compared and len(bundles) > 1 else ()
    samples = {b.title: taken for b in loaded if (taken := b.samples_ns) is not None}
    text = page([b.report for b in loaded], samples, comparisons)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return out
