"""The pictures that the small networks are trained on and scored with.

Fashion-MNIST is a folder with the four ``*-ubyte.gz`` files (see ``fashion_mnist_subset.py``); CIFAR-10 is a
zip of pictures named ``train/CLASS/NNNN.jpg`` and ``test/CLASS/NNNN.jpg``, decoded once into a file beside
the checkpoints.

Axis letters: N images, B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from fashion_mnist_subset import read_split
from given import FASHION
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fourfold.models.image_sets import CIFAR10_LABELS
from fourfold.models.registry import get_spec, model_names
from fourfold.models.spec import ModelSpec, Preprocess

SHIPPED = Path(__file__).parents[1] / "calibration" / "data" / "fashion_mnist.npz"


@dataclass(frozen=True)
class Images:
    """Pictures as they are stored, uint8 (N, C, H, W), and their classes (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def trained_classifiers() -> list[str]:
    """Name the networks of the zoo that have shipped weights and give classes."""
    specs = map(get_spec, model_names())
    return [spec.name for spec in specs if spec.weights and spec.labels]


def read_images(spec: ModelSpec, source: Path, cache: Path) -> dict[str, Images]:
    """Read the splits ``"train"`` and ``"test"`` of the set that a network answers for.

    Args:
        spec: The network.
        source: A folder of Fashion-MNIST, or a zip of CIFAR-10's layout.
        cache: A folder for decoded pictures.
    """
    coloured = spec.preprocess is not None and spec.preprocess.mode == "RGB"
    return read_cifar(source, cache) if coloured else read_fashion(source)


def read_fashion(source: Path) -> dict[str, Images]:
    """Read both splits of Fashion-MNIST.

    Raises:
        SystemExit: If a file is not there.
    """
    if not all((source / name).is_file() for name in FASHION):
        message = f"expected a folder with the files of Fashion-MNIST, got {source}; see --help"
        raise SystemExit(message)
    return {"train": _images(*read_split(source, "train")), "test": _images(*read_split(source, "t10k"))}


def read_cifar(source: Path, cache: Path) -> dict[str, Images]:
    """Read both splits of CIFAR-10, decoded once into the folder ``cache``.

    Raises:
        SystemExit: If the path is no zip, or the zip has other pictures.
    """
    if not zipfile.is_zipfile(source):
        message = f"expected a zip of CIFAR-10, got {source}; see --help"
        raise SystemExit(message)
    decoded = cache / f"{source.stem}-{source.stat().st_size}.npz"
    if not decoded.exists():
        np.savez(decoded, **_decode(source, CIFAR10_LABELS))
    with np.load(decoded) as arrays:
        return {split: _images(arrays[split], arrays[f"{split}_labels"]) for split in ("train", "test")}


def shipped_images() -> Images:
    """Give the Fashion-MNIST test images that the package ships."""
    with np.load(SHIPPED) as arrays:
        return _images(arrays["test_images"], arrays["test_labels"])


def _images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    stack = torch.from_numpy(pixels)
    stack = stack.unsqueeze(1) if stack.ndim == 3 else stack.permute(0, 3, 1, 2)
    return Images(stack, torch.from_numpy(labels).long())


def _decode(source: Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Decode every picture of a zip, in the order of the names."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(source) as archive:
        for split in ("train", "test"):
            names = sorted(n for n in archive.namelist() if n.startswith(f"{split}/") and n.endswith(".jpg"))
            if not names:
                message = f"expected pictures named {split}/CLASS/NNNN.jpg in {source}, got none; see --help"
                raise SystemExit(message)
            arrays[split] = np.stack([_pixels(archive.read(name)) for name in names])
            parents = [PurePosixPath(name).parent.name for name in names]
            arrays[f"{split}_labels"] = np.array([classes.index(parent) for parent in parents])
    return arrays


def _pixels(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as picture:
        return np.asarray(picture.convert("RGB"))


def normalised(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Turn uint8 (B, C, H, W) into the floats that the network expects."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (preprocess.mean, preprocess.std))
    return pixels.float().div_(255).sub_(mean).div_(std)


def augmented(pixels: Tensor, shift: int, edge: str, generator: torch.Generator) -> Tensor:
    """Mirror each of (B, C, H, W) with probability one half, then shift it by up to ``shift`` pixels."""
    n, size = len(pixels), pixels.shape[-1]
    flip = torch.rand(n, generator=generator) < 0.5
    pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
    padded = F.pad(pixels, (shift,) * 4, mode=edge)
    offset = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator)
    rows, columns = offset + torch.arange(size)
    planes = padded.permute(0, 2, 3, 1)  # so that the indices stand side by side
    moved = planes[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
