"""Samples as arrays: a user's .npz, and the data sets that come with the package."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import UsageError, unknown_name
from ..export.artifact import Array, Feed
from ..models.preprocess import prepare
from ..models.spec import Preprocess, TensorSpec
from .store import Store, picture_input

IMAGES = ("images", "x")
LABELS = ("labels", "y")

MAX_BYTES = 8 << 30
"""Most that an .npz may unpack to; a hostile one can claim a thousand times its size."""


def open_arrays(path: Path, inputs: tuple[TensorSpec, ...], preprocess: Preprocess | None) -> Store:
    """Open an .npz: arrays by input name, or ``images`` (or ``x``), with optional ``labels`` (or ``y``).

    uint8 images of shape (N, H, W) or (N, H, W, 3) are prepared like picture files; other dtypes must have
    the input's own shape and are fed as they are.
    """
    return _store("npz", _load(path, path.name), inputs, preprocess)


def shipped_arrays(
    name: str, split: str, inputs: tuple[TensorSpec, ...], preprocess: Preprocess | None
) -> Store:
    """Open one split of a data set in ``calibration/data``."""
    folder = files("fourfold") / "calibration" / "data"
    known = sorted(f.name.removesuffix(".npz") for f in folder.iterdir() if f.name.endswith(".npz"))
    if name not in known:
        raise unknown_name(kind="shipped data set", name=name, known=known)
    with (folder / f"{name}.npz").open("rb") as file:
        arrays = _load(file, name, only=f"{split}_")
    if not arrays:
        raise unknown_name(kind="split", name=split, known=("train", "test"))
    return _store(f"{name} {split}", arrays, inputs, preprocess)


def _load(source: Path | IO[bytes], name: str, only: str = "") -> dict[str, Array]:
    """Read the arrays whose names begin with ``only``, without that beginning; pickles are refused."""
    try:
        _bounded(source, name)
        with np.load(source, allow_pickle=False) as archive:
            return {k.removeprefix(only): archive[k] for k in archive.files if k.startswith(only)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"expected a readable .npz of plain arrays, got {name!r}: {error}") from error


def _bounded(source: Path | IO[bytes], name: str) -> None:
    with zipfile.ZipFile(source) as archive:
        size = sum(i.file_size for i in archive.infolist())
    if size > MAX_BYTES:
        raise UsageError(
            f"expected an .npz of at most {MAX_BYTES >> 30} GB unpacked, got {size >> 30} GB in {name!r}"
        )
    if not isinstance(source, Path):
        source.seek(0)


def _store(
    kind: str, arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...], preprocess: Preprocess | None
) -> Store:
    images = next((arrays[k] for k in IMAGES if k in arrays), None)
    if images is not None and images.dtype == np.uint8 and not _named(arrays, inputs):
        return _pictures(kind, images, arrays, inputs, preprocess)
    if images is not None and len(inputs) == 1 and not _named(arrays, inputs):
        fed = {inputs[0].name: images}
    else:
        fed = {s.name: _required(arrays, s.name) for s in inputs}
    for spec in inputs:
        _fits(fed[spec.name], spec)
    count = _count(fed)
    names = tuple(f"sample {i}" for i in range(count))
    return Store(
        kind, "samples", names, lambda i: {k: a[i] for k, a in fed.items()}, dict, _labels(arrays, count)
    )


def _named(arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...]) -> bool:
    """Tell whether every input has a float array of its own name."""
    return all(s.name in arrays and arrays[s.name].dtype == np.dtype(s.dtype) for s in inputs)


def _pictures(
    kind: str,
    images: Array,
    arrays: Mapping[str, Array],
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess | None,
) -> Store:
    target = picture_input(inputs, preprocess)
    wanted = 3 if target.mode == "L" else 4
    if images.ndim != wanted or (wanted == 4 and images.shape[3] != 3):
        layout = "(N, H, W)" if wanted == 3 else "(N, H, W, 3)"
        raise UsageError(f"expected uint8 images of shape {layout}, got {images.shape}")
    if target.preprocess.resize == "exact" and images.shape[1:3] != target.size:
        raise UsageError(f"expected images of {target.size} pixels, got {images.shape[1:3]}; resize them")
    return Store(
        kind,
        "images",
        tuple(f"image {i}" for i in range(len(images))),
        lambda i: {target.name: images[i]},
        lambda decoded: {target.name: prepare(decoded[target.name], target.preprocess)},
        _labels(arrays, len(images)),
        target.notes,
    )


def _required(arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        have = ", ".join(sorted(arrays)) or "nothing"
        raise UsageError(f"expected an array named {name!r} (or 'images') in the .npz, got {have}")
    return arrays[name]


def _fits(array: Array, spec: TensorSpec) -> None:
    if array.dtype != np.dtype(spec.dtype):
        raise UsageError(
            f"expected {spec.dtype} for input {spec.name!r}, got {array.dtype}; convert the array"
        )
    free = [d if isinstance(d, int) else None for d in spec.shape[1:]]
    same = len(free) == array.ndim - 1 and all(
        d in (None, n) for d, n in zip(free, array.shape[1:], strict=True)
    )
    if not same:
        raise UsageError(f"expected shape {spec.shape} for input {spec.name!r}, got {array.shape}")


def _count(fed: Feed) -> int:
    counts = {len(a) for a in fed.values()}
    if len(counts) != 1:
        raise UsageError(f"expected as many samples of every input, got {sorted(counts)}")
    return counts.pop()


def _labels(arrays: Mapping[str, Array], count: int) -> tuple[int, ...] | None:
    labels = next((arrays[k] for k in LABELS if k in arrays), None)
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UsageError(f"expected {count} whole-number labels, got {labels.dtype} of shape {labels.shape}")
    return tuple(int(n) for n in labels)
