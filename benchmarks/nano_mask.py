"""Learn which pixels of a picture show the item pasted over it, and which item (``pasted_items.py``).

Axis letters: B batch, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nano_data import Images, normalised
from nano_tasks import Given, Scores
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.models.image_sets import CIFAR10
from fourfold.models.m3vit import PASTED_CLASSES

DATA = "Fashion-MNIST pasted over CIFAR-10, all 60,000 training images"
MIDDLE = 0.5
"""Probability above which a pixel counts as one of the item."""


@dataclass(frozen=True)
class Mask:
    """One probability a pixel: does it show the item?"""

    data: str = DATA

    def read(self, source: Path, cache: Path) -> dict[str, Images]:
        """Read the file that ``pasted_items.py`` writes."""
        return read_pasted(source)

    def given(self, pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Given:
        """Part pictures (B, 3, H, W) and masks (B, 1, H, W)."""
        return Given((normalised(pixels[:, :3], CIFAR10),), (pixels[:, 3:] > 0).float())

    def loss(self, answers: tuple[Tensor, ...], target: Tensor, smoothing: float) -> Tensor:
        """Compute the binary cross entropy."""
        return F.binary_cross_entropy(answers[0], target)

    def scores(self, model: nn.Module, test: Images) -> Scores:
        """Compute the intersection over the union of all pixels of the test images."""
        return {f"iou_{len(test)}": float(_unions(model, test)[1])}


@dataclass(frozen=True)
class Regions:
    """One class a pixel: the photograph, or the kind of the item."""

    data: str = DATA

    def read(self, source: Path, cache: Path) -> dict[str, Images]:
        """Read the file that ``pasted_items.py`` writes."""
        return read_pasted(source)

    def given(self, pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Given:
        """Part pictures (B, 3, H, W) and maps (B, H, W)."""
        return Given((normalised(pixels[:, :3], CIFAR10),), pixels[:, 3].long())

    def loss(self, answers: tuple[Tensor, ...], target: Tensor, smoothing: float) -> Tensor:
        """Compute the mean cross entropy of all pixels."""
        return F.cross_entropy(answers[0].float(), target, label_smoothing=smoothing)

    def scores(self, model: nn.Module, test: Images) -> Scores:
        """Compute the intersection over the union of every class over the test images, and their mean."""
        return {f"mean_iou_{len(test)}": float(_unions(model, test).mean())}


def read_pasted(source: Path) -> dict[str, Images]:
    """Read pictures with their maps as a fourth plane, so that both are moved alike.

    Raises:
        SystemExit: If the file is not one of ``pasted_items.py``.
    """
    wanted = [f"{split}{kind}" for split in ("train", "test") for kind in ("", "_maps")]
    try:
        with np.load(source) as arrays:
            held = {name: arrays[name] for name in wanted}
    except (OSError, ValueError, KeyError) as error:
        message = f"expected a file of pasted_items.py, got {source}: {error}; see --help"
        raise SystemExit(message) from error
    return {split: _images(held[split], held[f"{split}_maps"]) for split in ("train", "test")}


@torch.no_grad()
def _unions(model: nn.Module, test: Images) -> Tensor:
    """Run over all test images and give intersection over union by class."""
    counts = torch.zeros(PASTED_CLASSES, PASTED_CLASSES, dtype=torch.int64)
    for pixels in test.pixels.split(500):
        answers = model(normalised(pixels[:, :3], CIFAR10))
        one = answers.shape[1] == 1
        found = (answers[:, 0] > MIDDLE).long() if one else answers.argmax(1)
        right = (pixels[:, 3] > 0).long() if one else pixels[:, 3].long()
        counts += confusion(found, right, PASTED_CLASSES)
    return unions(counts)


def confusion(found: Tensor, right: Tensor, classes: int) -> Tensor:
    """Count pixels by right class and found class, (K, K)."""
    return torch.bincount((right * classes + found).flatten(), minlength=classes**2).reshape(classes, classes)


def unions(counts: Tensor) -> Tensor:
    """Give intersection over union by class, (K,), from counts (K, K); 0 for a class that is nowhere."""
    both = counts.diagonal().double()
    return both / (counts.sum(0) + counts.sum(1) - both).clamp(min=1)


def _images(pixels: np.ndarray, maps: np.ndarray) -> Images:
    planes = np.concatenate([pixels, maps[..., None]], axis=-1)
    stack = torch.from_numpy(np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))
    return Images(stack, torch.zeros(len(stack), dtype=torch.int64))
