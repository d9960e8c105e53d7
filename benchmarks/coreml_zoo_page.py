"""The Markdown page of ``coreml_zoo.py``, made from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def page(rows: Mapping[str, Any], floors: Mapping[str, float]) -> str:
    """Write the support matrix, with a reason in every cell that has no figure."""
    wanted = ", ".join(f"{db:g} dB in {precision}" for precision, db in floors.items())
    lines = [
        "# Core ML: which networks of the zoo are packages",
        "",
        "Written by `benchmarks/coreml_zoo.py` from `benchmarks/coreml_zoo.json`. Each network is exported,",
        "lowered, saved as a package for iOS 17, read back and evaluated by the reference evaluator of MIL",
        f"on random inputs. *SQNR* is of its answers against torch (wanted: at least {wanted});",
        "where the evaluator and torch call the same kernels in the same order, they are *equal*.",
        "*Operators* are those of the saved program, constants left out. Weights are random where none are",
        "shipped. Apple's kernels were not run.",
        "",
        "| network | ONNX nodes | fp32: SQNR dB | operators | MB | fp16: SQNR dB | operators | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, cells in sorted(rows.items()):
        nodes = next((str(cell["nodes"]) for cell in cells.values() if "nodes" in cell), "")
        both = " | ".join(_cell(cells.get(precision)) for precision in floors)
        lines.append(f"| {name} | {nodes} | {both} |")
    return "\n".join([*lines, *_FURTHER]) + "\n"


_FURTHER = (
    "",
    "## Measured elsewhere",
    "",
    "* [int8](../benchmarks/coreml_int8.md): every trained network in weights and activations on real test",
    "  images, paired with float, and beside what ONNX Runtime makes of the same graph.",
    "* [Photographs](../benchmarks/coreml_photos.md): EfficientNet-Lite0 and a vision transformer, both",
    "  trained and packaged by others, from ONNX in float32, float16 and int8.",
    "* [Text](../benchmarks/coreml_lines.md): the recogniser of PP-OCRv6, convolutions and attention,",
    "  on lines of text over photographs.",
    "* [Front ends](../benchmarks/coreml_frontends.md): our lowering beside coremltools' own from torch.",
    "* [Decisions](../benchmarks/half_decisions.md): what float16 does to networks that choose by their own",
    "  scores; in moh_vit_s_80 and m3vit_nano much of the fp16 package is float32 for it.",
)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "not run | | "
    if "reason" in row:
        return f"{row['reason'].replace('|', '/')} | | "
    mark = "" if row["ok"] else " (too low)"
    sqnr = "equal" if row["sqnr_db"] is None else f"{row['sqnr_db']}{mark}"
    return f"{sqnr} | {row['operators']} | {row['megabytes']}"
