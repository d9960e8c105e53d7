"""What is known about a model before it is built: names, shapes, provenance, preprocessing.

Axis letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Dim = int | str
"""A dimension: a size, or the name of a free dimension such as ``"batch"``."""


EQUAL_OUTPUTS = "exact count; outputs equal to the authors' code at 1e-5 with randomised weights"
"""Says of a network that the state dict of the authors' code was loaded unchanged and both were run.

That code ran with plain stand-ins for compiled parts: scans step by step, experts one after another. Norms,
statistics, layer scales, gates and everything else that starts constant was random.
"""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and numpy dtype name of one input or output; free dimensions are names."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    high: int | None = None
    """Exclusive upper bound of the integers that mean something, such as a vocabulary; None if not known."""

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

    mean: tuple[float, ...]
    """One value for all channels, or one per channel."""
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    """Height and width in pixels; None means those of the network's input (see `fitted`)."""
    mode: Literal["L", "RGB"] | None = None
    """None means by the channels of the network's input (see `fitted`)."""
    resize: Literal["exact", "stretch", "crop"] = "crop"
    """``exact`` refuses other sizes, ``stretch`` ignores the aspect, ``crop`` takes the centre."""
    crop: float = 0.875
    """Share of the resized shorter side that the centre crop keeps."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"

    def fitted(self, spec: TensorSpec) -> Preprocess:
        """Fill in size and mode from an input of shape (B, C, H, W), where they are not declared.

        Raises:
            UsageError: If the input is no picture, or one of its sizes is neither declared nor fixed.
        """
        channels, *size = spec.shape[1:] if len(spec.shape) == 4 else (None, None, None)
        if channels not in (1, 3):
            raise UsageError(
                f"expected a picture of shape (B, 1 or 3, H, W), got {spec.name!r} of shape {spec.shape}; "
                "give an npz with one array per input instead"
            )
        fixed = tuple(s for s in size if isinstance(s, int))
        if self.size is None and len(fixed) != 2:
            raise UsageError(
                f"expected fixed height and width, got {spec.name!r} of shape {spec.shape}; "
                "declare the size in its preprocessing"
            )
        return replace(
            self, size=self.size or (fixed[0], fixed[1]), mode=self.mode or ("L" if channels == 1 else "RGB")
        )


@dataclass(frozen=True)
class Card:
    """What a compiled network tells people, where its format has room for it; empty is not known."""

    author: str = ""
    licence: str = ""
    version: str = ""
    """Empty: the beginning of the graph's hash."""
    description: str = ""
    """One line."""


@dataclass(frozen=True)
class ModelSpec:
    """One model of the zoo, or a user's model described in the same words."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[TensorSpec, ...]
    """Shapes carry a leading free dimension ``"batch"``."""
    outputs: tuple[str, ...] = ("logits",)
    answer: str = ""
    """Which output is scored and labelled, where there are several; ``""`` means the first."""
    paper: str = ""
    """Title and identifier of the paper the network is written from."""
    licence: str = ""
    """Licence of the idea's public code, or ``""``."""
    checked: str = ""
    """How the network was checked: exact count, formula, or unverified."""
    params: int | None = None
    """Exact number of parameters that the paper's code has, when known."""
    weights: str | None = None
    """File name of the trained weights shipped in ``models/trained``; None means random weights."""
    untrained: bool = True
    """What ``build`` gives without weights: random ones, or those that a user's factory loads itself."""
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    dataset: str | None = None
    """Name of the shipped data set that calibrates and scores the model."""
