"""The page of ``nano_int8.py``, from its JSON."""

from __future__ import annotations

Figures = dict[str, float]
Table = dict[str, dict[str, Figures]]
"""Figures by network and device."""


def page(table: Table) -> str:
    """Write the table."""
    rows = [
        f"| `{name}` | {device} | {_row(figures)} |"
        for name, devices in sorted(table.items())
        for device, figures in sorted(devices.items())
    ]
    lines = [
        "# int8 of the small networks",
        "",
        "Written by `benchmarks/nano_int8.py`: post-training int8, calibrated on training images and scored",
        "on 10,000 test images of Fashion-MNIST or CIFAR-10. Broke and fixed count the images that only the",
        "float network or only the int8 network has right; p is McNemar's exact one.",
        "",
        "| network | device | float | int8 | broke / fixed | p | agreement | SQNR dB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join([*lines, ""])


def _row(f: Figures) -> str:
    changed = f"{f['broke']:.0f} / {f['fixed']:.0f} | {f['p_value']:.2g}"
    shares = " | ".join(_percent(f[key], f["n"]) for key in ("float_correct", "correct"))
    return f"{shares} | {changed} | {f['agreement']:.4f} | {f['sqnr_db']:.1f}"


def _percent(correct: float, n: float) -> str:
    return f"{100 * correct / n:.2f} %"
