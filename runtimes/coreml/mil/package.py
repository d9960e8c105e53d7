"""From a path to the specification inside it: ``.mlpackage`` folders and single ``.mlmodel`` files.

A package is a folder with ``Manifest.json``, which names a specification (protobuf) below ``Data``; the
weights lie beside the specification in ``weights/``. Nothing in a package is executed, and no path leads out
of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ....errors import BuildError, UnavailableError, UsageError
from ....export.quiet import quiet

MAX_SPECIFICATION = 2**31 - 1
"""Bytes of the specification: what one protobuf message can hold."""
_MAX_MANIFEST = 2**20
_AGAIN = "save or copy the package again"
_KINDS = {
    "pipeline": "a pipeline of several models; give its models one by one",
    "pipelineClassifier": "a pipeline of several models; give its models one by one",
    "pipelineRegressor": "a pipeline of several models; give its models one by one",
    "neuralNetwork": "a neural network of the older layer format; convert it to an ML Program",
    "neuralNetworkClassifier": "a neural network of the older layer format; convert it to an ML Program",
    "neuralNetworkRegressor": "a neural network of the older layer format; convert it to an ML Program",
}


@dataclass(frozen=True)
class Package:
    """A specification that was read, and the folder that ``@model_path`` in it stands for."""

    path: Path
    specification: Any
    """The ``CoreML.Specification.Model`` message; its ML Program is checked to be there."""
    folder: Path


def read_package(path: Path) -> Package:
    """Read the specification of a saved Core ML model.

    Args:
        path: A ``.mlpackage`` folder or a ``.mlmodel`` file.

    Raises:
        UsageError: If there is no such file, or it is of a kind that is not evaluated here.
        BuildError: If the package is damaged.
        UnavailableError: If coremltools, whose protobuf definitions are used, is not installed.
    """
    if not path.exists():
        raise UsageError(f"expected a Core ML package, got {path}, which does not exist; check the path")
    if path.suffix == ".mlmodelc":
        message = (
            f"expected a .mlpackage, got {path.name}, which is compiled by Apple's tools; give the package"
        )
        raise UsageError(message)
    file = _root_of(path) if path.is_dir() else path
    return Package(path, _parse(file, path.name), file.parent.resolve())


def inside(package: Package, name: str) -> Path:
    """Find a weight file of a package from its name in the specification.

    Raises:
        BuildError: If the name leads out of the package, or to no file.
    """
    relative = name.removeprefix("@model_path/")
    file = (package.folder / relative).resolve()
    root = package.path.resolve()
    # Resolved, so that neither ".." nor a symbolic link leads out of the package.
    if relative == name or not (package.path.is_dir() and file.is_relative_to(root)):
        raise damaged(package.path.name, "weights inside the package", f"the file name {name[:200]!r}")
    if not file.is_file():
        raise damaged(package.path.name, f"its weights in {relative[:200]!r}", "no such file")
    return file


def damaged(name: str, expected: str, got: str, advice: str = _AGAIN) -> BuildError:
    """Build the error for a package that does not hold together."""
    return BuildError(f"{name}: expected {expected}, got {got}; {advice}")


def _root_of(path: Path) -> Path:
    manifest = path / "Manifest.json"
    if not manifest.is_file():
        raise damaged(path.name, "a Core ML package", "a folder without Manifest.json", "check the path")
    try:
        if manifest.stat().st_size > _MAX_MANIFEST:
            raise damaged(path.name, "a small Manifest.json", f"{manifest.stat().st_size} bytes")
        content = json.loads(manifest.read_bytes())
        item = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
        file = (path / "Data" / item).resolve()
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        what = f"{type(error).__name__} ({error})"
        raise damaged(path.name, "a Manifest.json that names the model", what) from error
    if not file.is_relative_to(path.resolve()) or not file.is_file():
        raise damaged(path.name, "the model that Manifest.json names", f"no file {item[:200]!r} in it")
    return file


def _parse(file: Path, name: str) -> Any:
    size = file.stat().st_size
    if not 0 < size <= MAX_SPECIFICATION:
        raise damaged(name, f"a specification of 1 to {MAX_SPECIFICATION} bytes", f"{size}")
    specification = _message()
    decode_error: Any = import_module("google.protobuf.message").DecodeError
    try:
        specification.ParseFromString(file.read_bytes())
    except (decode_error, OSError, RuntimeError) as error:
        raise damaged(name, "a Core ML specification", f"other bytes ({error})") from error
    _check_kind(specification, name)
    return specification


def _check_kind(specification: Any, name: str) -> None:
    kind: str = specification.WhichOneof("Type") or ""
    if not specification.specificationVersion or not kind:
        raise damaged(name, "a Core ML specification", "a file without a model")
    if kind in _KINDS:
        raise UsageError(f"{name}: expected an ML Program, got {_KINDS[kind]}")
    if kind != "mlProgram":
        raise UsageError(
            f"{name}: expected an ML Program, got a model of type {kind}, which holds no operators"
        )


def _message() -> Any:
    try:
        with quiet():
            definitions: Any = import_module("coremltools.proto.Model_pb2")
    except ImportError as error:
        message = f"expected coremltools to read Core ML packages, got {error}; pip install fourfold[coreml]"
        raise UnavailableError(message) from error
    return definitions.Model()
