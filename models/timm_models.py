"""Networks of the optional package timm, described like our own.

Nothing is downloaded: weights start random.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache, partial
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import BuildError, UnavailableError, UsageError, unknown_name
from .preprocess import FILTERS
from .spec import ModelSpec, Preprocess, TensorSpec

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""Declared by torchvision's compiled half, which does not load when it was built for another torch."""


class TimmModel(nn.Module):
    """A network of timm that knows its deploy form."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to whatever the network returns, mostly (B, K) logits."""
        return self.model(x)

    def fused(self) -> nn.Module:
        """Let timm fold a copy."""
        manipulate: Any = import_module("timm.utils.model")
        return manipulate.reparameterize_model(deepcopy(self.model).eval(), inplace=True)


def timm_spec(name: str, shape: tuple[int, ...] | None) -> ModelSpec:
    """Describe a network of timm.

    Args:
        name: As timm knows it, for example ``"mobileone_s0"``.
        shape: (C, H, W); None takes what timm declares.

    Raises:
        UnavailableError: If timm is not installed or does not load.
        UsageError: If timm has no such network, or the shape does not fit it.
    """
    timm = _timm()
    if not timm.is_model(name):
        raise unknown_name(kind="timm model", name=name, known=timm.list_models())
    declared = timm.get_pretrained_cfg(name)
    channels, height, width = _shape(name, tuple(declared.input_size), shape)
    other = (height, width) != tuple(declared.input_size[1:])
    options = {"img_size": (height, width)} if other and declared.fixed_input_size else {}
    return ModelSpec(
        name=name,
        build=partial(_build, name, options),
        inputs=(TensorSpec("image", ("batch", channels, height, width)),),
        paper=f"{declared.architecture or name} of timm {timm.__version__}",
        licence="Apache-2.0",
        checked="not checked; an outside network",
        preprocess=_preprocess(declared, (height, width)),
    )


def _shape(name: str, declared: tuple[int, ...], shape: tuple[int, ...] | None) -> tuple[int, int, int]:
    if shape is not None and (len(shape) != 3 or shape[0] != declared[0]):
        message = f"expected an input shape like {declared} for timm/{name}, got {shape}; keep the channels"
        raise UsageError(message)
    channels, height, width = shape or declared
    return channels, height, width


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return TimmModel(_timm().create_model(name, pretrained=False, **options))
    except Exception as error:
        message = (
            f"expected timm to build {name}, got {type(error).__name__}: {error}; try its declared shape"
        )
        raise BuildError(message) from error


def _preprocess(declared: Any, size: tuple[int, int]) -> Preprocess:
    resize: Literal["stretch", "crop"] = "stretch" if declared.crop_mode == "squash" else "crop"
    return Preprocess(
        size=size,
        mean=tuple(declared.mean),
        std=tuple(declared.std),
        resize=resize,
        crop=declared.crop_pct,
        interpolation=declared.interpolation if declared.interpolation in FILTERS else "bicubic",
    )


@cache
def _timm() -> Any:
    try:
        _load_torchvision()
        return import_module("timm")
    except ModuleNotFoundError as error:
        message = f"expected timm, got no module {error.name}; run: pip install 'fourfold[timm]'"
        raise UnavailableError(message) from error
    except (ImportError, RuntimeError) as error:
        message = (
            f"expected timm to load, got {type(error).__name__}: {error}; reinstall timm and torchvision"
        )
        raise UnavailableError(message) from error


def _load_torchvision() -> None:
    """Import torchvision even without its compiled operators, which no classifier uses."""
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_operators()
        import_module("torchvision")


_declared: list[torch.library.Library] = []
"""Operators exist only as long as the library that declares them."""


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        library.define(operator)
    _declared.append(library)
