"""What every source of samples looks like inside: names in order, and one decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..export.artifact import Feed
from ..models.spec import Preprocess, TensorSpec


@dataclass(frozen=True)
class Store:
    """Samples that are read one at a time, by position."""

    kind: str
    """``"folder"``, ``"zip"``, ``"npz"``, the name of a shipped set, or ``"noise"``."""
    unit: str
    """``"images"`` or ``"samples"``."""
    names: tuple[str, ...]
    """What each sample is called in errors; never an absolute path."""
    decode: Callable[[int], Feed]
    """One sample as it was stored, by position."""
    feed: Callable[[Feed], Feed]
    """From a decoded sample to one input of the network, without the batch dimension."""
    labels: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def subset(store: Store, limit: int | None, seed: int) -> Store:
    """Draw at most ``limit`` samples evenly at random and keep their order."""
    if limit is None or limit >= len(store.names):
        return store
    if limit < 1:
        raise UsageError(f"expected a limit of at least one sample, got {limit}")
    drawn = np.random.default_rng(seed).choice(len(store.names), limit, replace=False)
    kept = [int(i) for i in np.sort(drawn)]

    def decode(index: int) -> Feed:
        return store.decode(kept[index])

    return replace(
        store,
        names=tuple(store.names[i] for i in kept),
        decode=decode,
        labels=None if store.labels is None else tuple(store.labels[i] for i in kept),
    )


@dataclass(frozen=True)
class PictureInput:
    """The one input that pictures become."""

    name: str
    size: tuple[int, int]
    mode: Literal["L", "RGB"]
    preprocess: Preprocess
    notes: tuple[str, ...]
    """What had to be assumed."""


def picture_input(inputs: tuple[TensorSpec, ...], preprocess: Preprocess | None) -> PictureInput:
    """Find the one picture input and how pictures become it.

    Args:
        inputs: The network's inputs; exactly one, float32, of shape (B, C, H, W).
        preprocess: What the model declares; None scales pixels to 0..1 and nothing more.

    Raises:
        UsageError: If pictures cannot be fed to these inputs.
    """
    if len(inputs) != 1 or inputs[0].dtype != "float32":
        have = ", ".join(f"{s.name} {s.dtype}" for s in inputs) or "none"
        raise UsageError(
            f"expected a model with one float32 picture input, got {have}; give an .npz of arrays"
        )
    declared = preprocess or Preprocess(mean=(0.0,), std=(1.0,))
    fitted = declared.fitted(inputs[0])
    assert fitted.size is not None, "fitted fills in the size"
    assert fitted.mode is not None, "fitted fills in the mode"
    note = (
        f"the model declares no preprocessing: pictures are resized and cropped to {fitted.size[0]}x"
        f"{fitted.size[1]} and scaled to 0..1, without mean and deviation"
    )
    return PictureInput(inputs[0].name, fitted.size, fitted.mode, fitted, () if preprocess else (note,))
