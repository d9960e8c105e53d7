"""What is known about a model before it is built: names, shapes, provenance, preprocessing.

Axis letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

Dim = int | str
"""A dimension: a size, or the name of a free dimension such as ``"batch"``."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and numpy dtype name of one input or output; free dimensions are names."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"

    def concrete(self, **sizes: int) -> tuple[int, ...]:
        """Give the shape with every free dimension replaced by its size in ``sizes``.

        Raises:
            KeyError: If a free dimension has no size.
        """
        return tuple(sizes[d] if isinstance(d, str) else d for d in self.shape)


@dataclass(frozen=True)
class Preprocess:
    """From a decoded picture to one input of shape (C, H, W); declared once, used everywhere.

    Pixels are scaled to 0..1, then normalised as ``(x - mean) / std`` per channel.
    """

    size: tuple[int, int]
    """Height and width in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: Literal["L", "RGB"] = "RGB"
    resize: Literal["exact", "stretch", "crop"] = "crop"
    """``exact`` refuses other sizes, ``stretch`` ignores the aspect, ``crop`` takes the centre."""
    crop: float = 0.875
    """Share of the resized shorter side that the centre crop keeps."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"


@dataclass(frozen=True)
class ModelSpec:
    """One model of the zoo, or a user's model described in the same words."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[TensorSpec, ...]
    """Shapes carry a leading free dimension ``"batch"``."""
    outputs: tuple[str, ...] = ("logits",)
    paper: str = ""
    """Title and identifier of the paper the network is written from."""
    licence: str = ""
    """Licence of the idea's public code, or ``""``."""
    checked: str = ""
    """How the network was checked: exact count, formula, or unverified."""
    params: int | None = None
    """Exact number of parameters that the paper's code has, when known."""
    weights: str | None = None
    """File name of the trained weights shipped in ``models/weights``; None means random weights."""
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    dataset: str | None = None
    """Name of the shipped data set that calibrates and scores the model."""
