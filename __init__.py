"""fourfold: from one PyTorch model to verified, timed and reported artifacts for every device.

The public names are looked up when first used, so that ``import fourfold`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "deploy": ".harness.deploy",
    "verify": ".harness.verify",
    "bench": ".harness.bench",
    "compare": ".harness.compare",
    "report": ".harness.report",
}
_GROUPS = {"optical": ".harness.optical"}
"""Modules with the verbs of a group."""

__all__ = ["__version__", *_PUBLIC, *_GROUPS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _GROUPS:
        return importlib.import_module(_GROUPS[name], __name__)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fourfold' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name], __name__), name)
