"""Ranges of activations, with where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataSource:
    """Identity of the samples that were looked at."""

    description: str
    """For example ``"folder: 512 images"``; no absolute paths."""
    kind: Literal["real", "synthetic"]
    count: int
    sha256: str
    """Hash over the decoded samples, in the order used."""
    seed: int | None = None


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value to be represented, per tensor name."""

    values: Mapping[str, tuple[float, float]]
    source: DataSource
    observer: str
