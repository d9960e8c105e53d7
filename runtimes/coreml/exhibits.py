"""What a package holds, and what was checked of it, as tables for the report."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from ..exhibit import Exhibit
from .description import SOURCE, read_specification
from .face import Face, read_face
from .stored import Stored

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
    weights = [_weights(face.weights)] if face.weights else []
    return (_program(compiled, face), *weights, _words(compiled), *([checked] if emulated else []))


def _words(compiled: Path) -> Exhibit:
    """Give what Xcode shows of the package."""
    description = read_specification(compiled).description
    metadata = description.metadata
    said = (
        ("description", metadata.shortDescription),
        ("author", metadata.author or "not given"),
        ("licence", metadata.license or "not given"),
        ("version", metadata.versionString),
        ("sha256 of the ONNX graph", metadata.userDefined[SOURCE]),
        *((f"input {feature.name}", feature.shortDescription) for feature in description.input),
        *((f"output {feature.name}", feature.shortDescription) for feature in description.output),
    )
    return Exhibit("What the package says of itself", ("what", "is"), said)


def _weights(stored: tuple[Stored, ...]) -> Exhibit:
    before, after = (sum(weight.sizes[i] for weight in stored) / 1e6 for i in (0, 1))
    return Exhibit(
        "Weights in fewer bits",
        ("operator", "shape", "form", "bytes before", "bytes after", "SQNR dB"),
        tuple(
            (w.user, "x".join(map(str, w.shape)), w.form, *(f"{n:,}" for n in w.sizes), f"{w.sqnr_db:.1f}")
            for w in stored
        ),
        note=f"{len(stored)} weights: {before:.2f} MB become {after:.2f} MB, scales included. SQNR is of "
        "each weight as it is restored against the one before. The network computes in floats as before.",
    )


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
