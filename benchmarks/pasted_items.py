"""Paste every item of Fashion-MNIST over a photograph of CIFAR-10, with the mask of its pixels.

    python benchmarks/pasted_items.py FOLDER cifar10.zip pasted.npz

Item i of a split lies over photograph i of the same split (counted from the start again where there are fewer
photographs), at a place and in a colour drawn from the seed. Its mask are the pixels that Fashion-MNIST has
above zero. The file holds ``train`` and ``test``, uint8 (N, H, W, 3), and ``train_masks`` and ``test_masks``,
uint8 (N, H, W) of 0 and 255.

Axis letters: N images, H and W height and width.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from fashion_mnist_subset import read_split
from given import a_fashion_folder, a_zip
from nano_data import read_images

from fourfold.export.artifact import Array
from fourfold.models.registry import get_spec

SEED = 0
DARKEST = 0.4
"""Least share of its brightness that an item keeps in each colour."""


def pasted(items: Array, photos: Array, seed: int) -> tuple[Array, Array]:
    """Paste items over photographs.

    Args:
        items: uint8 (N, h, w), zero around the item.
        photos: uint8 (M, H, W, 3), not smaller than the items.
        seed: Of places and colours.

    Returns:
        Pictures (N, H, W, 3) and masks (N, H, W), both uint8.
    """
    rng = np.random.default_rng(seed)
    pictures = photos[np.arange(len(items)) % len(photos)].copy()
    masks = np.zeros(pictures.shape[:3], np.uint8)
    height, width = items.shape[1:]
    room = np.array(pictures.shape[1:3]) - (height, width)
    for picture, mask, item in zip(pictures, masks, items, strict=True):
        top, left = rng.integers(0, room + 1)
        colour = rng.uniform(DARKEST, 1, 3)
        place = np.s_[top : top + height, left : left + width]
        shown = item > 0
        picture[place][shown] = np.rint(item[shown, None] * colour)
        mask[place][shown] = 255
    return pictures, masks


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
        photos = read_images(get_spec("ep_cifar_nano"), options.cifar, Path(cache))
    arrays: dict[str, Array] = {}
    for index, (split, name) in enumerate((("train", "train"), ("test", "t10k"))):
        items, _ = read_split(options.fashion, name)
        # The photographs of a set are ordered by class, the items are not.
        order = np.random.default_rng((SEED, index, 0)).permutation(len(photos[split]))
        shown = photos[split].pixels.permute(0, 2, 3, 1).numpy()[order]
        arrays[split], arrays[f"{split}_masks"] = pasted(items, shown, index)
    np.savez(options.out, **arrays)
    print({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
