"""What a small network learns, and how its answers are scored: here, to name the class of a picture.

Axis letters: B batch, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from nano_data import Images, normalised, read_images, shipped_images
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.models.image_sets import CIFAR10, FASHION_MNIST
from fourfold.models.spec import ModelSpec

Scores = dict[str, float | dict[str, float]]
"""Figures by name, and those of every exit where there are several."""


@dataclass(frozen=True)
class Given:
    """What a network is given and what it should answer."""

    inputs: tuple[Tensor, ...]
    target: Tensor


class Task(Protocol):
    """One kind of answer."""

    @property
    def data(self) -> str:
        """Say what the network is trained on."""
        ...

    def read(self, source: Path, cache: Path) -> dict[str, Images]:
        """Read the splits ``"train"`` and ``"test"``; ``cache`` is a folder for decoded pictures."""
        ...

    def given(self, pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Given:
        """Make a batch of uint8 pictures (B, C, H, W), brought to ``size`` pixels a side."""
        ...

    def loss(self, answers: tuple[Tensor, ...], target: Tensor, smoothing: float) -> Tensor:
        """Compute the loss to train by."""
        ...

    def scores(self, model: nn.Module, test: Images) -> Scores:
        """Score on all test images."""
        ...


@dataclass(frozen=True)
class Classes:
    """One class a picture, from every exit of the network."""

    spec: ModelSpec

    @property
    def data(self) -> str:
        """Say what the network is trained on.

        Raises:
            SystemExit: If the network answers for neither of the two sets.
        """
        if self.spec.preprocess == FASHION_MNIST:
            return "Fashion-MNIST, all 60,000 training images"
        if self.spec.preprocess == CIFAR10:
            return "CIFAR-10, all 50,000 training images"
        message = (
            f"expected a network for Fashion-MNIST or CIFAR-10, got {self.spec.name}; see fourfold models"
        )
        raise SystemExit(message)

    def read(self, source: Path, cache: Path) -> dict[str, Images]:
        """Read the splits of the set that the network answers for."""
        return read_images(self.spec, source, cache)

    def given(self, pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Given:
        """Normalise the pictures; the target is (B,)."""
        x = self._normalised(pixels)
        if size != x.shape[-1]:
            x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
        return Given((x,), labels)

    def loss(self, answers: tuple[Tensor, ...], target: Tensor, smoothing: float) -> Tensor:
        """Compute the mean cross entropy over all exits."""
        losses = [F.cross_entropy(logits.float(), target, label_smoothing=smoothing) for logits in answers]
        return torch.stack(losses).mean()

    def scores(self, model: nn.Module, test: Images) -> Scores:
        """Score on all test images, and on the shipped ones where some are."""
        own = self.accuracies(model, test)
        found: Scores = {f"accuracy_{len(test)}": own[-1]}
        if self.spec.preprocess == FASHION_MNIST:
            shipped = shipped_images()
            found[f"accuracy_shipped_{len(shipped)}"] = self.accuracies(model, shipped)[-1]
        if len(own) > 1:
            found["exits"] = dict(zip(self.spec.outputs, own, strict=True))
        return found

    @torch.no_grad()
    def accuracies(self, model: nn.Module, images: Images) -> list[float]:
        """Share of right answers of every output, in order."""
        right: list[list[Tensor]] = []
        for pixels, labels in zip(images.pixels.split(500), images.labels.split(500), strict=True):
            logits = answers_of(model, (self._normalised(pixels),))
            right.append([(one.argmax(1) == labels).sum() for one in logits])
        return [int(sum(counts)) / len(images) for counts in zip(*right, strict=True)]

    def _normalised(self, pixels: Tensor) -> Tensor:
        assert self.spec.preprocess is not None
        return normalised(pixels, self.spec.preprocess)


def answers_of(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give every output; most networks have one."""
    answer = model(*inputs)
    return (answer,) if isinstance(answer, Tensor) else tuple(answer)
