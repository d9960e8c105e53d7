"""The page of ``coreml_int8.py``, from its JSON."""

from __future__ import annotations

from typing import Any

Row = dict[str, dict[str, Any]]
Table = dict[str, Row]
"""Figures by network and way."""

_WAYS = ("as_written", "same_graph", "own_graph")


def page(table: Table) -> str:
    """Write both tables."""
    rows = sorted(table.items())
    lines = [
        "# int8 in Core ML",
        "",
        "Written by `benchmarks/coreml_int8.py`: weights and activations in int8, calibrated on training",
        "images, saved as a package for iOS 17, read back and evaluated by the reference evaluator of MIL",
        "on the test images of Fashion-MNIST or CIFAR-10. Apple's kernels were not run. Broke and fixed",
        "count the images that only the float network or only the int8 network has right; p is McNemar's",
        "exact one.",
        "",
        "| network | images | float | int8 | broke / fixed | p | agreement with float | SQNR dB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| `{name}` | {_accuracy(row['coreml'])} |" for name, row in rows),
        "",
        "## Beside ONNX Runtime",
        "",
        "On how many of these images both put out the same class, how many differ, and how far the logits",
        "are apart. *As written*: the graph of the package in ONNX Runtime without optimizations. *Integer",
        "kernels*: the same graph as ONNX Runtime runs it (wanted: 99 %). *Its own graph*: what ONNX Runtime",
        "gets from the same ranges, uint8 activations with zero points and other operators in integers; two",
        "quantizations of one network agree with each other about as often as with float.",
        "",
        "| network | as written | integer kernels | its own graph | int8 right there |",
        "| --- | --- | --- | --- | ---: |",
        *(f"| `{name}` | {_beside(row)} |" for name, row in rows),
    ]
    return "\n".join([*lines, ""])


def _accuracy(f: dict[str, Any]) -> str:
    shares = " | ".join(f"{100 * f[key] / f['n']:.2f} %" for key in ("float_correct", "correct"))
    changed = f"{f['broke']} / {f['fixed']} | {f['p_value']:.2g}"
    return f"{f['n']} | {shares} | {changed} | {100 * f['agreement']:.2f} % | {f['sqnr_db']:.1f}"


def _beside(row: Row) -> str:
    found = (row[way] for way in _WAYS)
    cells = (f"{100 * f['agreement']:.2f} %, {f['different']}, {f['sqnr_db']:.1f} dB" for f in found)
    return f"{' | '.join(cells)} | {100 * row['ort']['correct'] / row['ort']['n']:.2f} %"
