"""What a package says of itself: facts for us, and words for people, as Xcode shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ... import __version__
from ...export.artifact import Exported
from ...export.quiet import quiet
from ..serialize import serialize

SPECIFICATION = Path("Data/com.apple.CoreML/model.mlmodel")
"""Where a package keeps its description."""

SOURCE = "fourfold.source.sha256"
"""Under which a package keeps the hash of the ONNX graph that it was lowered from."""

_VERSION_DIGITS = 12
"""Of the graph's hash, where the network has no version of its own."""


def describe(path: Path, facts: Mapping[str, str]) -> None:
    """Write facts into a package."""
    specification = read_specification(path)
    specification.description.metadata.userDefined.update(facts)
    _write(path, specification)


def introduce(path: Path, exported: Exported) -> None:
    """Write the card of the network, a line for every feature, and where it comes from."""
    specification = read_specification(path)
    card, metadata = exported.card, specification.description.metadata
    source = hashlib.sha256(serialize(exported)).hexdigest()
    metadata.author, metadata.license = card.author, card.licence
    metadata.versionString = card.version or source[:_VERSION_DIGITS]
    metadata.shortDescription = card.description or exported.name
    metadata.userDefined.update({SOURCE: source, "fourfold.version": __version__})
    for feature in (*specification.description.input, *specification.description.output):
        feature.shortDescription = feature.shortDescription or _line(feature, exported)
    _write(path, specification)


def read_specification(path: Path) -> Any:
    """Read the description of a package, without its weights."""
    with quiet():
        specification = import_module("coremltools.proto.Model_pb2").Model()
    specification.ParseFromString((path / SPECIFICATION).read_bytes())
    return specification


def _write(path: Path, specification: Any) -> None:
    (path / SPECIFICATION).write_bytes(specification.SerializeToString())


def _line(feature: Any, exported: Exported) -> str:
    """Say in one line what an input or output is."""
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        picture = feature.type.imageType
        return f"A picture of {picture.width} by {picture.height} pixels as it is; the package normalises it."
    if kind == "dictionaryType":
        return "Probability by class label."
    if kind in ("stringType", "int64Type"):
        return "Label of the most probable class."
    specs = {spec.name: spec for spec in (*exported.inputs, *exported.outputs)}
    spec = specs.get(feature.name)
    return f"{spec.dtype} of shape {', '.join(map(str, spec.shape)) or '()'}." if spec else ""
