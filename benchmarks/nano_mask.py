"""Learn which pixels of a picture show the item that was pasted over it (``pasted_items.py``).

Axis letters: B batch, C channels, H and W height and width.
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

MIDDLE = 0.5
"""Probability above which a pixel counts as one of the item."""


@dataclass(frozen=True)
class Mask:
    """One probability a pixel. The mask is the last plane of a picture, so that it moves with the picture."""

    data: str = "Fashion-MNIST pasted over CIFAR-10, all 60,000 training images"

    def read(self, source: Path, cache: Path) -> dict[str, Images]:
        """Read the file that ``pasted_items.py`` writes."""
        with np.load(source) as arrays:
            return {split: _images(arrays[split], arrays[f"{split}_masks"]) for split in ("train", "test")}

    def given(self, pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Given:
        """Part pictures (B, 3, H, W) and masks (B, 1, H, W)."""
        return Given((normalised(pixels[:, :3], CIFAR10),), (pixels[:, 3:] > 0).float())

    def loss(self, answers: tuple[Tensor, ...], target: Tensor, smoothing: float) -> Tensor:
        """Compute the binary cross entropy."""
        return F.binary_cross_entropy(answers[0], target)

    @torch.no_grad()
    def scores(self, model: nn.Module, test: Images) -> Scores:
        """Compute the intersection over the union of all pixels of the test images."""
        both = either = 0
        for pixels in test.pixels.split(500):
            both_here, either_here = overlap(
                model(normalised(pixels[:, :3], CIFAR10)) > MIDDLE, pixels[:, 3:] > 0
            )
            both, either = both + both_here, either + either_here
        return {f"iou_{len(test)}": both / either}


def overlap(found: Tensor, right: Tensor) -> tuple[int, int]:
    """Count the pixels of the intersection and of the union of two masks of one shape."""
    return int((found & right).sum()), int((found | right).sum())


def _images(pixels: np.ndarray, masks: np.ndarray) -> Images:
    planes = np.concatenate([pixels, masks[..., None]], axis=-1)
    stack = torch.from_numpy(np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))
    return Images(stack, torch.zeros(len(stack), dtype=torch.int64))
