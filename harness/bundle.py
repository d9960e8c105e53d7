"""Reading a bundle: the folder that is one network compiled for one device, with its proof.

```
MODEL@DEVICE-PRECISION/
  manifest.json        what this is, and the sha256 of every other file
  model.onnx           the graph that was compiled
  compiled/            what the engine opens
  app/                 the form that an app wants, where it was asked for
  golden.safetensors   inputs (``in.NAME``) and the float model's answers (``out.NAME``)
  report.json          everything known about it
  report.html          the same as a page
  samples.npz          every raw latency, when there are any
```

A bundle checks itself without torch: this file must stay importable without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from ..errors import UsageError
from ..export.artifact import Array, Compression, Golden, Precision, parity_kind
from ..models.spec import Card, Preprocess, TensorSpec
from ..runtimes.device import Device
from . import document

if TYPE_CHECKING:
    from .result import Report

SCHEMA = 1
"""Version of manifest.json; raised when a field changes its meaning."""

MANIFEST, MODEL, COMPILED, GOLDEN = "manifest.json", "model.onnx", "compiled", "golden.safetensors"
APP = "app"
REPORT, PAGE, SAMPLES = "report.json", "report.html", "samples.npz"

INPUT, OUTPUT = "in.", "out."
"""Prefixes of the tensor names in golden.safetensors."""

_LARGEST_TEXT = 64 * 2**20


@dataclass(frozen=True)
class FileEntry:
    """What one file of a bundle must be."""

    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle is, and how each of its files is recognised."""

    title: str
    """``MODEL@DEVICE-PRECISION``."""
    model: str
    precision: Precision
    runtime: str
    device: Device
    """The row of devices.yaml as it was, so that an overlay is not needed again."""
    compiled: str
    """The file the engine opens, relative to the bundle."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess | None
    labels: tuple[str, ...]
    tools: Mapping[str, str]
    """Version by package name."""
    history_sha256: str
    """Hash over what every step did, without its timings: equal histories have equal hashes."""
    command: str
    created: str
    """UTC time, ISO 8601."""
    files: Mapping[str, FileEntry]
    """Every file but the manifest, by its path relative to the bundle."""
    compression: Compression | None = None
    """Of the weights of the compiled file, where it stores them in fewer bits than the graph."""
    app: str = ""
    """The package for an app, relative to the bundle; empty where none was asked for."""
    card: Card = field(default_factory=Card)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were all found to be as its manifest says."""

    folder: Path
    manifest: Manifest

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a bundle and check every file against the manifest.

        Raises:
            UsageError: If the path is not a bundle, its manifest cannot be read, or a file is missing, added
                or changed.
        """
        if not (folder / MANIFEST).is_file():
            found = "no such path" if not folder.exists() else f"a path without {MANIFEST}"
            raise UsageError(f"expected a bundle at {folder}, got {found}; name a folder that export made")
        text = _read_text(folder / MANIFEST)
        manifest = document.load(text, Manifest, schema=SCHEMA, name=str(folder / MANIFEST))
        _check_names(folder, manifest)
        for name, entry in manifest.files.items():
            try:
                _check_file(folder, name, entry)
            except OSError as error:
                raise _damaged(folder, f"a readable {name}", str(error)) from error
        return cls(folder, manifest)

    @property
    def title(self) -> str:
        """``MODEL@DEVICE-PRECISION``."""
        return self.manifest.title

    @property
    def precision(self) -> Precision:
        """The precision asked for."""
        return self.manifest.precision

    @property
    def kind(self) -> str:
        """The kind of parity that the compiled network keeps with the float one."""
        return parity_kind(self.precision, self.manifest.compression)

    @property
    def device(self) -> Device:
        """The device it was compiled for, as it was described then."""
        return self.manifest.device

    @property
    def compiled(self) -> Path:
        """The file, or the folder, that the engine opens."""
        return self.folder / self.manifest.compiled

    @property
    def app(self) -> Path | None:
        """The package for an app, where there is one."""
        return self.folder / self.manifest.app if self.manifest.app else None

    @property
    def model(self) -> Path:
        """The ONNX graph that was compiled."""
        return self.folder / MODEL

    @cached_property
    def golden(self) -> Golden:
        """The inputs and the float model's answers."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load((self.folder / GOLDEN).read_bytes())
        except (SafetensorError, KeyError) as error:
            raise _damaged(self.folder, f"a readable {GOLDEN}", str(error)) from error
        return Golden(_named(tensors, INPUT), _named(tensors, OUTPUT))

    @cached_property
    def report(self) -> Report:
        """Everything known about the bundle."""
        path = self.folder / REPORT
        return document.from_json(_read_text(path), name=str(path))

    @cached_property
    def samples_ns(self) -> Array | None:
        """Every latency in nanoseconds, in the order taken: (n,) int64; None when it was not timed."""
        import numpy as np

        if SAMPLES not in self.manifest.files:
            return None
        try:
            with np.load(self.folder / SAMPLES, allow_pickle=False) as arrays:
                return arrays["latency_ns"]
        except (ValueError, KeyError, OSError) as error:
            raise _damaged(self.folder, f"latencies in {SAMPLES}", str(error)) from error


def digest(path: Path) -> FileEntry:
    """Give the hash and the size of a file."""
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def relative_files(folder: Path) -> tuple[str, ...]:
    """Give the path of every file under a folder, relative to it, in a stable order."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or p.is_file())
    return tuple(sorted(names))


def _check_names(folder: Path, manifest: Manifest) -> None:
    for name in (*manifest.files, manifest.compiled):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name:
            raise _damaged(folder, "paths inside the bundle", repr(name))
    absent = sorted({MODEL, GOLDEN, REPORT} - manifest.files.keys())
    # Some engines open a folder: then it is its files that the manifest holds.
    if not any(f"{name}/".startswith(f"{manifest.compiled}/") for name in manifest.files):
        absent.append(manifest.compiled)
    if absent:
        raise _damaged(folder, f"{', '.join(absent)} in its manifest", "nothing")
    # A note beside the bundle's own files does no harm; a file that an engine may pick up does.
    present = {f"{COMPILED}/{name}" for name in relative_files(folder / COMPILED)}
    added = sorted(present - manifest.files.keys())
    if added:
        raise _damaged(folder, "only the files of its manifest", f"also {', '.join(added)}")


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _damaged(folder, f"{name} inside the bundle", "a link that leaves it")
    if not path.is_file():
        raise _damaged(folder, name, "no such file")
    found = digest(path)
    if found != entry:
        got = f"{found.size} bytes of {found.sha256[:12]}"
        raise _damaged(folder, f"{name} with {entry.size} bytes of sha256 {entry.sha256[:12]}", got)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise _damaged(path.parent, f"at most {_LARGEST_TEXT} bytes in {path.name}", "more")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path.parent, f"text in {path.name}", "other bytes") from error
    except OSError as error:
        raise _damaged(path.parent, f"a readable {path.name}", str(error)) from error


def _named(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _damaged(folder: Path, expected: str, got: str) -> UsageError:
    return UsageError(f"expected {expected} in bundle {folder}, got {got}; make the bundle again")
