"""The page of ``coreml_weights.py``, from its JSON."""

from __future__ import annotations

from typing import Any

Figures = dict[str, Any]
Table = dict[str, dict[str, Figures]]
"""Figures by network and form of the weights."""
FORMS = ("fp16", "int8", "int4")


def page(table: Table) -> str:
    """Write the table."""
    rows = [
        f"| `{name}` | {form} | {_row(figures)} |"
        for name, forms in sorted(table.items())
        for form, figures in sorted(forms.items(), key=lambda item: FORMS.index(item[0]))
    ]
    lines = [
        "# Smaller weights in Core ML packages",
        "",
        "Written by `benchmarks/coreml_weights.py`: networks with shipped weights for `iphone-16`, computing",
        "in fp16, with weights in fp16, int8 per channel, and int4 in blocks of 32 or 16 input channels",
        "(`--compress`). *MB* is the whole package, program included. The evaluator of MIL scored 2,000 test",
        "images of Fashion-MNIST or CIFAR-10. Broke and fixed count the images that only the float network",
        "or only the package has right; p is McNemar's exact one. Apple's kernels were not run.",
        "",
        "| network | weights | MB | float | package | broke / fixed | p | agreement | SQNR dB | gates |",
        "| --- | --- | ---: | --- | --- | --- | --- | --- | ---: | --- |",
        *rows,
    ]
    return "\n".join([*lines, ""])


def _row(f: Figures) -> str:
    if "refused" in f:
        return f"{f['refused'].replace('|', '/')} | | | | | | |"
    changed = f"{f['broke']:.0f} / {f['fixed']:.0f} | {f['p_value']:.2g}"
    shares = " | ".join(f"{100 * f[key] / f['n']:.2f} %" for key in ("float_correct", "correct"))
    gates = "ok" if f["ok"] else "FAILED"
    figures = f"{f['agreement']:.4f} | {f['sqnr_db']:.1f}"
    return f"{f['bytes'] / 1e6:.2f} | {shares} | {changed} | {figures} | {gates}"
