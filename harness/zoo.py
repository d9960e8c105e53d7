"""The zoo in one table: counted on the meta device, read from the records of the sweep, nothing by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..models.census import Census, census
from ..models.registry import family_of, get_spec, model_names
from ..models.spec import ModelSpec
from .swept import RECORDS, Swept, swept
from .wording import digits

NOT_SWEPT = "not swept"
NONE = "none"


@dataclass(frozen=True)
class Entry:
    """One model with everything that is known about it."""

    spec: ModelSpec
    family: str
    size: Census
    found: Swept | None
    """What the sweep found on this very network; None if it has not exported it as it is now."""


def zoo(records: Path = RECORDS) -> tuple[Entry, ...]:
    """Count every model of the zoo, and add what the sweep found.

    Raises:
        BuildError: If a model has another number of parameters than its spec says.
        UsageError: If the records cannot be read.
    """
    known = swept(records)
    return tuple(_entry(name, known.get(name)) for name in model_names())


def _entry(name: str, found: Swept | None) -> Entry:
    spec = get_spec(name)
    size = census(spec)
    valid = found is not None and (found.parameters, found.macs) == (size.parameters, size.macs)
    return Entry(spec, family_of(name), size, found if valid else None)


def rows(entries: Iterable[Entry]) -> tuple[Mapping[str, str], ...]:
    """Write one row per model."""
    return tuple(_row(entry) for entry in entries)


def _row(entry: Entry) -> Mapping[str, str]:
    spec = entry.spec
    return {
        "model": spec.name,
        "parameters": f"{entry.size.parameters:,}",
        "multiply-adds": giga(entry.size.macs),
        "input": " ".join("x".join(map(str, i.shape[1:])) for i in spec.inputs),
        "weights": "trained, shipped" if spec.weights else "random",
        "checked": spec.checked,
        "folds": ", ".join(kind for kind, _ in entry.size.folds) or NONE,
        "exports": exports(entry.found),
        "dynamic parts": dynamic(entry.found),
        "paper": spec.paper,
    }


def giga(macs: int) -> str:
    """Write a number of multiply-adds in thousand millions, to three digits."""
    return f"{digits(macs / 1e9)} G"


def exports(found: Swept | None) -> str:
    """Say which engines answered like torch, and how far off they were at most."""
    if found is None:
        return NOT_SWEPT
    batches = " and ".join(map(str, found.batches))
    engines = ", ".join(f"{row} {engine.relative:.1e}" for row, engine in found.engines.items())
    return f"{engines} at batch {batches}"


def dynamic(found: Swept | None) -> str:
    """Say which operators of the exported graph depend on values in what they do or where they reach."""
    if found is None:
        return NOT_SWEPT
    return ", ".join(f"{count} {operator}" for operator, count in found.dynamic.items()) or NONE
