"""What a package holds, and what was checked of it, as tables for the report."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from ..exhibit import Exhibit
from .face import Face, read_face

_UNCHECKED = (
    (
        "every operator's meaning, on the golden samples and on fresh inputs",
        "yes",
        "reference evaluator of MIL",
    ),
    ("weights and compression, as saved in the package", "yes", "reference evaluator of MIL"),
    ("names, types and free sizes of inputs and outputs", "yes", "read back from the package"),
    ("rounding to float16 after every operator that is written so", "yes", "reference evaluator of MIL"),
    ("Apple's kernels, whose sums may differ in the last digits", "no", "needs a Mac: fourfold verify there"),
    ("which unit takes which operator", "no", "needs a Mac: the compute plan"),
    ("latency and energy", "no", "needs the device: fourfold bench --save on a Mac"),
)


def exhibits(compiled: Path, *, emulated: bool) -> tuple[Exhibit, ...]:
    """Read a package back.

    Args:
        compiled: The package.
        emulated: True where no Mac opened it.
    """
    face = read_face(compiled)
    checked = Exhibit(
        "What was checked, and what was not",
        ("what", "checked", "by"),
        _UNCHECKED,
        note="This machine runs no Core ML; the package was evaluated operator by operator.",
    )
    return (_program(compiled, face), *([checked] if emulated else []))


def _program(compiled: Path, face: Face) -> Exhibit:
    """Count operators by kind, one column for every precision that occurs."""
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for kind, precision, count in face.operators:
        kinds[kind][precision] = count
    columns = sorted({precision for _, precision, _ in face.operators})
    rows = sorted(kinds.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    total = sum(count for _, _, count in face.operators)
    size = sum(path.stat().st_size for path in compiled.rglob("*") if path.is_file())
    return Exhibit(
        "Core ML program",
        ("operator", *columns),
        tuple((kind, *(str(by[p]) if p in by else "" for p in columns)) for kind, by in rows),
        note=f"{total} operators for {face.system} and later, {size / 1e6:.2f} MB; a program for "
        f"{face.precision}. 'other' are shapes, indices and truth values.",
    )
