"""Pictures in a folder, in a .zip or in a folder of a .zip, which is read in memory and never unpacked.

Labels come from class folders (``cat/1.jpg``) or from names that begin with the class number
(``0123_n01930112_nematode.jpg``).
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UsageError
from ..export.artifact import Array, Feed
from ..models.preprocess import prepare
from ..models.spec import Preprocess, TensorSpec
from .store import Store, picture_input

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

MAX_BYTES = 128 << 20
"""Largest picture file that is read; no camera writes larger ones, and a .zip may claim anything."""

MAX_PIXELS = 80_000_000
"""Largest picture that is decoded: 240 MB in memory, and below the size at which Pillow itself warns."""

_NUMBERED = re.compile(r"^(\d+)_n\d{8}_")


def open_folder(
    path: Path, inputs: tuple[TensorSpec, ...], preprocess: Preprocess | None, classes: Sequence[str]
) -> Store:
    """Open every picture under a folder, in the order of their names."""
    files = sorted(f for f in path.rglob("*") if f.is_file() and _wanted(f.relative_to(path).as_posix()))
    if not files:
        found = "an empty folder" if not any(path.iterdir()) else "a folder without any"
        raise UsageError(f"expected pictures ({_known()}) in {path.name!r}, got {found}")
    names = tuple(f.relative_to(path).as_posix() for f in files)
    return _store("folder", names, lambda i: _read_file(files[i], names[i]), inputs, preprocess, classes)


def zip_above(path: Path) -> Path | None:
    """Give the .zip that a path such as ``pictures.zip/train`` leads into, or that it is."""
    return next((p for p in (path, *path.parents) if p.suffix.lower() == ".zip" and p.is_file()), None)


def open_zip(
    path: Path,
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess | None,
    classes: Sequence[str],
    *,
    folder: str = "",
) -> Store:
    """Open every picture in a .zip, or in one folder of it, in the order of their names."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UsageError(f"expected a readable .zip, got {path.name!r}: {error}") from error
    lead = f"{folder}/" if folder else ""
    infos = sorted(
        (i for i in archive.infolist() if _wanted(i.filename) and i.filename.startswith(lead)),
        key=lambda i: i.filename,
    )
    if not infos:
        found = f"a .zip without any under {folder!r}" if folder else "a .zip without any"
        raise UsageError(f"expected pictures ({_known()}) in {path.name!r}, got {found}")
    names = tuple(i.filename.removeprefix(lead) for i in infos)
    return _store("zip", names, lambda i: _read_entry(archive, infos[i]), inputs, preprocess, classes)


def _wanted(name: str) -> bool:
    """Tell pictures from the rest, and from the side files that macOS leaves."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _known() -> str:
    return " ".join(sorted(SUFFIXES))


def _store(
    kind: str,
    names: tuple[str, ...],
    read: Callable[[int], bytes],
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess | None,
    classes: Sequence[str],
) -> Store:
    target = picture_input(inputs, preprocess)
    labels, assumed = _labels(names, classes)

    def decode(index: int) -> Feed:
        picture = decode_picture(read(index), names[index], target.mode)
        if target.preprocess.resize == "exact" and picture.shape[:2] != target.size:
            raise UsageError(
                f"expected pictures of {target.size[0]}x{target.size[1]} pixels, got "
                f"{picture.shape[0]}x{picture.shape[1]} in {names[index]!r}; resize it"
            )
        return {target.name: picture}

    def feed(decoded: Feed) -> Feed:
        return {target.name: prepare(decoded[target.name], target.preprocess)}

    return Store(kind, "images", names, decode, feed, labels, (*target.notes, *assumed))


def decode_picture(data: bytes, name: str, mode: str) -> Array:
    """Decode one picture.

    Args:
        data: The file's bytes.
        name: What to call it in errors.
        mode: ``"L"`` or ``"RGB"``.

    Returns:
        (H, W) or (H, W, 3) uint8.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                _bounded(image.size, name)
                return np.asarray(image.convert(mode))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UsageError(f"expected a picture of at most {MAX_PIXELS} pixels, got more in {name!r}") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UsageError(
            f"expected a readable picture, got {name!r}, which is broken; remove or replace it"
        ) from error


def _bounded(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise UsageError(
            f"expected a picture of at most {MAX_PIXELS} pixels, got {size[0]}x{size[1]} in {name!r}"
        )


def _read_file(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return _checked(file.read(MAX_BYTES + 1), name)
    except OSError as error:
        raise UsageError(f"expected a readable picture, got {name!r}: {error.strerror}") from error


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return _checked(file.read(MAX_BYTES + 1), info.filename)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
        raise UsageError(
            f"expected a readable picture, got {info.filename!r} in the .zip: {error}"
        ) from error


def _checked(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise UsageError(f"expected a picture file of at most {MAX_BYTES} bytes, got more in {name!r}")
    return data


def _labels(names: tuple[str, ...], classes: Sequence[str]) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Read labels off the names; None when they carry none, with a sentence on what was assumed."""
    numbered = [_NUMBERED.match(PurePosixPath(n).name) for n in names]
    if all(numbered):
        return tuple(int(m.group(1)) for m in numbered if m), ()
    folders = [PurePosixPath(n).parent.name for n in names]
    found = sorted(set(folders))
    if "" in found or len(found) < 2:
        return None, ()
    if all(f in classes for f in found):
        return tuple(list(classes).index(f) for f in folders), ()
    if all(f.isdecimal() for f in found):
        return tuple(int(f) for f in folders), ()
    note = f"the {len(found)} class folders are numbered in the order of their names"
    return tuple(found.index(f) for f in folders), (note,)
