"""What an engine shows of its work: a table, a picture, or both, for the report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exhibit:
    """One titled table; every cell is text."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    """What a reader must know to read it right."""
    modelled: bool = False
    """True when its figures come from a model or a simulation; such a table never holds a measured one."""
    picture: str = ""
    """An SVG document that stands above the table."""
