"""Samples that a network is calibrated or scored with: opened once, decoded a batch at a time.

Opening looks at every sample once. A broken file is named before anything else is computed, and the hash
that the report shows is over what was really decoded. Nothing decoded is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array, Batches, Feed
from ..export.parity import draw_input
from ..models.spec import Preprocess, TensorSpec
from .arrays import open_arrays, shipped_arrays
from .pictures import open_folder, open_zip, zip_above
from .ranges import DataSource
from .store import Store, subset


@dataclass(frozen=True)
class Samples:
    """Prepared samples with their identity; labels where the source has them."""

    source: DataSource
    batches: Batches
    labels: Array | None
    """(count,) int64."""
    count: int
    digests: tuple[str, ...]
    """sha256 of every decoded sample, in order."""
    notes: tuple[str, ...] = ()
    """What had to be assumed about the data, one sentence each."""


def open_samples(
    data: str | Path,
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess | None,
    *,
    limit: int | None,
    seed: int = 0,
    least: int = 1,
    labels: Sequence[str] = (),
) -> Samples:
    """Open a folder or .zip of pictures, a folder in a .zip (``a.zip/train``), or an .npz of arrays.

    Args:
        data: Path of the folder or file.
        inputs: The inputs to feed.
        preprocess: How pictures are prepared; None derives it from the input's shape.
        limit: Most samples to use, drawn evenly at random; None for all.
        seed: Seed of the draw.
        least: Fewest samples that are of use.
        labels: Class names of the model, to number class folders by.

    Returns:
        The samples, in the order of their names.

    Raises:
        UsageError: If anything about the data does not fit, naming the file.
    """
    path = Path(data)
    archive = zip_above(path)
    if archive is None and not path.exists():
        raise UsageError(
            f"expected a folder, .zip or .npz of samples, got {str(data)!r}, which does not exist"
        )
    if path.is_dir():
        store = open_folder(path, inputs, preprocess, labels)
    elif archive is not None:
        inner = path.relative_to(archive).as_posix()
        store = open_zip(archive, inputs, preprocess, labels, folder=inner if path != archive else "")
    elif path.suffix.lower() == ".npz":
        store = open_arrays(path, inputs, preprocess)
    else:
        raise UsageError(f"expected a folder, .zip or .npz of samples, got the file {path.name!r}")
    return _samples(store, limit, seed, least)


def shipped_samples(
    name: str,
    split: str,
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess | None,
    *,
    limit: int | None,
    seed: int = 0,
) -> Samples:
    """Open one split, ``train`` or ``test``, of a data set that comes with the package."""
    return _samples(shipped_arrays(name, split, inputs, preprocess), limit, seed, 1)


def synthetic_samples(inputs: tuple[TensorSpec, ...], *, count: int, seed: int) -> Samples:
    """Make seeded noise of the inputs' shapes; fit for a dry run, never for a product.

    Args:
        inputs: The inputs to feed; free dimensions other than the first become 1.
        count: How many samples.
        seed: Seed of the noise.

    Returns:
        The samples; their source says ``synthetic``.
    """
    shapes = {s.name: tuple(d if isinstance(d, int) else 1 for d in s.shape[1:]) for s in inputs}

    def decode(index: int) -> Feed:
        noise = np.random.default_rng((seed, index))
        return {s.name: draw_input(noise, s, shapes[s.name]) for s in inputs}

    names = tuple(f"noise {i}" for i in range(count))
    return _samples(Store("noise", "samples", names, decode, dict), None, seed, 1, synthetic=True)


def overlap(a: Samples, b: Samples) -> int:
    """Count the samples of ``a`` that are, to the last bit, also in ``b``."""
    known = set(b.digests)
    return sum(digest in known for digest in a.digests)


def _samples(store: Store, limit: int | None, seed: int, least: int, *, synthetic: bool = False) -> Samples:
    available = len(store.names)
    store = subset(store, limit, seed)
    count = len(store.names)
    if count < least:
        raise UsageError(f"expected at least {least} {store.unit}, got {count} in the {store.kind}; add more")
    digests = tuple(_digest(store.decode(i)) for i in range(count))
    share = f" of {available}" if count < available else ""
    source = DataSource(
        description=f"{store.kind}: {count}{share} {store.unit}",
        kind="synthetic" if synthetic else "real",
        count=count,
        sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
        seed=seed if synthetic or share else None,
    )
    labels = None if store.labels is None else np.array(store.labels, np.int64)
    return Samples(source, lambda size: _batches(store, size), labels, count, digests, store.notes)


def _digest(decoded: Feed) -> str:
    """Hash one decoded sample: what it holds, not where it came from."""
    digest = hashlib.sha256()
    for _, array in sorted(decoded.items()):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _batches(store: Store, size: int) -> Iterator[Feed]:
    for start in range(0, len(store.names), size):
        stop = min(start + size, len(store.names))
        feeds = [store.feed(store.decode(i)) for i in range(start, stop)]
        yield {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}
