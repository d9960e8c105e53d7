"""Plots of bars as inline SVG: sizes, and the nodes of the graph after every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..export.artifact import Step
from .axis import axis
from .drawing import EDGE, FONT, WIDTH, colour, figure, named_row, size_text, tag


@dataclass(frozen=True)
class Bars:
    """One bundle in the plot of sizes, in bytes."""

    name: str
    index: int
    """Picks the colour."""
    compiled: int
    graph: int


def size_plot(bundles: Sequence[Bars]) -> str:
    """Draw the size of what is shipped to the device, and of the graph it was compiled from.

    Args:
        bundles: One pair of bars each.

    Returns:
        The plot, or ``""`` when there is nothing to draw.
    """
    if not bundles:
        return ""
    scale = axis([float(max(b.compiled, b.graph)) for b in bundles], EDGE, WIDTH - EDGE, zero=True)
    rows: list[str] = []
    for i, b in enumerate(bundles):
        note = f"{size_text(b.compiled)} compiled, {size_text(b.graph)} graph"
        solid = tag("rect", x=EDGE, y=0, width=scale(b.compiled) - EDGE, height=11, rx=2, fill="currentColor")
        edge = tag(
            "rect", x=EDGE, y=13, width=scale(b.graph) - EDGE, height=3, fill="currentColor", opacity=0.4
        )
        rows.append(_bar_row(b.name, note, tag("g", solid, edge, style=colour(b.index)), 42.0 * i))
    described = "; ".join(f"{b.name}: {size_text(b.compiled)} compiled" for b in bundles)
    return figure("Size", described, WIDTH, 42.0 * len(bundles) + 4, *rows)


def history_plot(history: Sequence[Step]) -> str:
    """Draw how many nodes the graph has after every step, and how many places each step changed.

    Args:
        history: The steps in order; those before there is a graph have no bar.

    Returns:
        The plot, or ``""`` when there is nothing to draw.
    """
    if not history:
        return ""
    scale = axis([float(s.nodes or 0) for s in history], EDGE, WIDTH - EDGE, zero=True)
    rows: list[str] = []
    before: int | None = None
    for i, step in enumerate(history):
        length = scale(step.nodes or 0) - EDGE
        bar = tag("rect", x=EDGE, y=0, width=length, height=9, rx=2, fill="currentColor", opacity=0.65)
        rows.append(_bar_row(step.name, _step_note(step, before), bar if step.nodes else "", 38.0 * i))
        before = step.nodes if step.nodes is not None else before
    described = "; ".join(f"{s.name}: {'no graph yet' if s.nodes is None else s.nodes}" for s in history)
    return figure("Graph nodes after every step", described, WIDTH, 38.0 * len(history) + 4, *rows)


def _step_note(step: Step, before: int | None) -> str:
    changed = f"{step.changed} changed" if step.changed else "nothing changed" if step.nodes == before else ""
    if step.nodes is None:
        return ", ".join(filter(None, (changed, "no graph yet")))
    moved = f" ({step.nodes - before:+d})" if before is not None and step.nodes != before else ""
    return ", ".join(filter(None, (changed, f"{step.nodes} nodes{moved}")))


def _bar_row(name: str, note: str, bar: str, y: float) -> str:
    return named_row(name, note, y + FONT) + tag("g", bar, transform=f"translate(0 {y + FONT + 6:g})")
