"""The Markdown page of ``trt_support.py``, made from its JSON alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fourfold.runtimes.device import Device

HEAD = Path(__file__).with_name("trt_support_head.md")
"""What stands above the matrix."""

LONGEST_REASON = 300


def page(results: dict[str, Any], device: Device, precisions: Sequence[str]) -> str:
    """Write the page: a size, or a reason, in every cell of the matrix."""

    def cells(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        return (row[precision] for precision in precisions if precision in row)

    networks: dict[str, dict[str, Any]] = results["networks"]
    versions = {cell["version"] for row in networks.values() for cell in cells(row) if "version" in cell}
    papers = {paper(row) for row in networks.values()}
    built = {paper(row) for row in networks.values() if any("bytes" in cell for cell in cells(row))}
    reasons: list[str] = []
    rows = [_row(name, row, precisions, reasons) for name, row in sorted(networks.items())]
    lines = [
        HEAD.read_text(encoding="utf-8"),
        f"Networks of {len(built)} of {len(papers)} papers build for {device.compute} (`{device.name}`, "
        f"batches {device.batches[0]} to {device.batches[2]}) by TensorRT-RTX {', '.join(sorted(versions))} "
        "on a machine without a GPU. **None of these engines has been run.**",
        "",
        "A cell says the size of the engine, the seconds of its build, and how many of the fused layers that "
        "compute do so in the precision asked for; in int8 the others are what lies between products, in "
        "float. The seconds are of a wall clock, on a machine that did other work as well: alone, a build "
        "takes that long at most. int8 is calibrated on few samples here, on noise where the network has no "
        "data: enough to build, not to judge accuracy.",
        "",
        f"| network | parameters | nodes | {' | '.join(precisions)} |",
        f"| --- | ---: | ---: | {' | '.join('---' for _ in precisions)} |",
        *rows,
        "",
        *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def paper(row: dict[str, Any]) -> str:
    """Give the number of the paper that a network was written from."""
    found = re.search(r"(?:arXiv|doi) ([\w./]+)", row["paper"])
    return found[1] if found else row["paper"]


def _row(name: str, row: dict[str, Any], precisions: Sequence[str], reasons: list[str]) -> str:
    shown: list[str] = []
    for precision in precisions:
        found = row.get(precision, row)
        if "bytes" in found:
            shown.append(_built(found, precision))
        else:
            reasons.append(f"{name}, {precision}: {_short(found.get('reason', 'not tried yet'))}")
            shown.append(f"not built, see {len(reasons)}")
    return f"| {name} | {row['params']:,} | {row.get('nodes', '')} | {' | '.join(shown)} |"


def _short(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"


def _built(found: dict[str, Any], precision: str) -> str:
    layers = {kind: count for kind, count in found["layers"].items() if kind != "other"}
    asked = layers.get(precision, 0)
    return (
        f"{found['bytes'] / 1e6:.1f} MB, {found['seconds']:.0f} s, {asked} of {sum(layers.values())} layers"
    )
