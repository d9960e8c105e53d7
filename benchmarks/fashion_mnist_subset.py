"""Draw the Fashion-MNIST subset that the package ships in ``calibration/data``.

    python benchmarks/fashion_mnist_subset.py FOLDER

FOLDER holds the four ``*-ubyte.gz`` files of the whole set. On Debian, ``apt-get download
dataset-fashion-mnist`` and ``dpkg -x`` give it as ``usr/share/datasets/fashion-mnist``. The draw is seeded
and stratified (equally many images of each class, the remainder to the first classes); it keeps the order of
the original files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from given import a_fashion_folder

from fourfold.models.image_sets import FASHION_LABELS

SEED = 20170828
TRAIN, TEST = 1024, 2000
OUT = Path(__file__).parents[1] / "calibration" / "data" / "fashion_mnist.npz"


def read_idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, data."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        message = f"expected an IDX file of unsigned bytes, got {raw[:4]!r} at the start of {path.name}"
        raise SystemExit(message)
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


def read_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N, 28, 28) and labels (N,) of ``"train"`` or ``"t10k"``."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    return images, read_idx(folder / f"{split}-labels-idx1-ubyte.gz")


def stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Choose ``count`` positions, equally many per class, ascending."""
    classes = np.unique(labels)
    share, rest = divmod(count, len(classes))
    chosen = [
        rng.choice(np.flatnonzero(labels == c), share + (i < rest), replace=False)
        for i, c in enumerate(classes)
    ]
    return np.sort(np.concatenate(chosen))


def draw(folder: Path) -> dict[str, np.ndarray]:
    """Draw both subsets: calibration from the training split, evaluation from the test split."""
    rng = np.random.default_rng(SEED)
    arrays: dict[str, np.ndarray] = {}
    for name, split, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        images, labels = read_split(folder, split)
        chosen = stratified(labels, count, rng)
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = images[chosen], labels[chosen]
    return arrays | {"classes": np.array(FASHION_LABELS)}


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed npz whose bytes depend on the arrays alone, not on the clock."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


def main() -> None:
    """Write the subset and print the hashes that its README quotes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=a_fashion_folder, help="folder with the four *-ubyte.gz files")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args()
    arrays = draw(options.folder)
    write_npz(options.out, arrays)
    print(f"{hashlib.sha256(options.out.read_bytes()).hexdigest()}  {options.out.name}")
    for name, array in arrays.items():
        print(f"{hashlib.sha256(array.tobytes()).hexdigest()}  {name} {array.dtype} {array.shape}")


if __name__ == "__main__":
    main()
