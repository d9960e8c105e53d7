"""Paste every item of Fashion-MNIST over a photograph of CIFAR-10, with a map of what is where.

    python benchmarks/pasted_items.py FOLDER cifar10.zip pasted.npz

Item i of a split lies over a photograph of the same split, at a place and in a colour drawn from the seed.
Its pixels are those that Fashion-MNIST has above zero. The file holds ``train`` and ``test``, uint8 (N, H,
W, 3), and ``train_maps`` and ``test_maps``, uint8 (N, H, W): 0 for the photograph, 1 to 10 for the classes
of items.

Axis letters: N images, H and W height and width.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from fashion_mnist_subset import read_split
from given import a_fashion_folder, a_zip
from nano_data import read_cifar

from fourfold.export.artifact import Array

SEED = 0
DARKEST = 0.4
"""Least share of its brightness that an item keeps in each colour."""


def pasted(items: Array, labels: Array, photos: Array, seed: int) -> tuple[Array, Array]:
    """Paste items over photographs.

    Args:
        items: uint8 (N, h, w), zero around the item.
        labels: Their classes, (N,).
        photos: uint8 (M, H, W, 3), not smaller than the items.
        seed: Of places and colours.

    Returns:
        Pictures (N, H, W, 3) and maps (N, H, W), both uint8; a map holds the label of the item and 1.
    """
    rng = np.random.default_rng(seed)
    pictures = photos[np.arange(len(items)) % len(photos)].copy()
    maps = np.zeros(pictures.shape[:3], np.uint8)
    height, width = items.shape[1:]
    room = np.array(pictures.shape[1:3]) - (height, width)
    for picture, where, item, label in zip(pictures, maps, items, labels, strict=True):
        top, left = rng.integers(0, room + 1)
        colour = rng.uniform(DARKEST, 1, 3)
        place = np.s_[top : top + height, left : left + width]
        shown = item > 0
        picture[place][shown] = np.rint(item[shown, None] * colour)
        where[place][shown] = label + 1
    return pictures, maps


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fashion", type=a_fashion_folder, help="folder with the four *-ubyte.gz files")
    parser.add_argument("cifar", type=a_zip, help="zip of CIFAR-10")
    parser.add_argument("out", type=Path, help="the file to write")
    return parser.parse_args()


def main() -> None:
    """Write both splits."""
    options = parsed()
    with tempfile.TemporaryDirectory() as cache:
        photos = read_cifar(options.cifar, Path(cache))
    arrays: dict[str, Array] = {}
    for index, (split, name) in enumerate((("train", "train"), ("test", "t10k"))):
        items, labels = read_split(options.fashion, name)
        # The photographs of a set are ordered by class, the items are not.
        order = np.random.default_rng((SEED, index, 0)).permutation(len(photos[split]))
        shown = photos[split].pixels.permute(0, 2, 3, 1).numpy()[order]
        arrays[split], arrays[f"{split}_maps"] = pasted(items, labels, shown, index)
    np.savez(options.out, **arrays)
    print({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
