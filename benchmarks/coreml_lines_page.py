"""The page of ``coreml_lines.py``, from its JSON."""

from __future__ import annotations

Row = dict[str, float]
"""Figures of one precision."""


def page(table: dict[str, Row]) -> str:
    """Write the table."""
    lines = [
        "# A text recogniser from outside in Core ML",
        "",
        "Written by `benchmarks/coreml_lines.py`: PP-OCRv6_rec_small (convolutions and attention, 18,710",
        "characters; Apache-2.0) from the ONNX file that `rapidocr` ships to a saved package for iOS 17,",
        "read back and evaluated by the reference evaluator of MIL. Each line is the name of a photograph",
        "written over a strip of it. *Places* are the 40 positions of a line at which a character may be",
        "read. The source is the ONNX graph as it came. In int8 every fourth line calibrates and the others",
        "are asked about. Apple's kernels were not run.",
        "",
        "| precision | lines | same text | same places | source right | package right | SQNR dB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {name} | {_row(table[name])} |" for name in ("fp32", "fp16", "int8") if name in table),
    ]
    return "\n".join([*lines, ""])


def _row(f: Row) -> str:
    return (
        f"{f['n']} | {f['same']} ({100 * f['same'] / f['n']:.1f} %) | {100 * f['places']:.2f} % | "
        f"{f['source_right']} | {f['package_right']} | {f['sqnr_db']:.1f}"
    )
