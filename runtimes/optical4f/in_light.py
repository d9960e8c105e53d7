"""A torch network whose convolutions and linear layers are computed by simulated light, gradients included.

The network stays as it is: while `in_light` lasts, every layer that light can compute answers with what the
camera would have read. Rounding passes gradients straight through and noise is reparametrised (``rounding``,
``sensor``), so that the weights can be trained for the device that will compute with them.

A linear layer over d numbers is a valid convolution of r x c pixels, r c >= d (see ``lower``).

Axes: B batch, d features, m outputs, r c rows and columns of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...errors import UsageError
from .conditions import Conditions
from .convolve import Geometry, conv_masks, optical_conv2d
from .lower import token_size
from .passes import HEADROOM
from .plane import Window
from .simulate import PassResult, Signs


@dataclass(frozen=True)
class Light:
    """How layers are shown and read."""

    conditions: Conditions
    scheme: str = "homodyne"
    signs: Signs = "pair"


def optical_layers(module: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Give the layers that light can compute, by name: what has fixed kernels of more than one pixel."""
    modules = cast("Iterable[tuple[str, nn.Module]]", module.named_modules())
    return {
        name: layer
        for name, layer in modules
        if (isinstance(layer, nn.Conv2d) and _is_plain(layer))
        or (isinstance(layer, nn.Linear) and layer.in_features > 1)
    }


@contextmanager
def in_light(module: nn.Module, light: Light, generator: torch.Generator) -> Generator[tuple[str, ...]]:
    """Let light compute the layers of a network inside the block.

    Args:
        module: Any network; its parameters stay where they are.
        light: The device.
        generator: Of all noise.

    Yields:
        Names of the layers that light computes.

    Raises:
        UsageError: If there is none.
    """
    layers = optical_layers(module)
    if not layers:
        message = "expected a network with convolutions or linear layers, got none; light has nothing to do"
        raise UsageError(message)
    hooks = [layer.register_forward_hook(_hook(light, generator)) for layer in layers.values()]
    try:
        yield tuple(layers)
    finally:
        for hook in hooks:
            hook.remove()


def _hook(
    light: Light, generator: torch.Generator
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def answer(layer: nn.Module, inputs: tuple[Tensor, ...], electronic: Tensor) -> Tensor:
        (x,) = inputs
        if isinstance(layer, nn.Conv2d):
            return _convolve(layer, x, light, generator)
        assert isinstance(layer, nn.Linear)
        return _multiply(layer, x, light, generator)

    return answer


def _convolve(layer: nn.Conv2d, x: Tensor, light: Light, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) to (B, O, H', W')."""
    assert not isinstance(layer.padding, str), "optical_layers leaves those out"
    top, left = _pair(layer.padding)
    window = Window((top, left, top, left), _pair(layer.stride))
    answer = _light(layer.weight, x, Geometry(window, _pair(layer.dilation), layer.groups), light, generator)
    return answer if layer.bias is None else answer + layer.bias[:, None, None]


def _multiply(layer: nn.Linear, x: Tensor, light: Light, generator: torch.Generator) -> Tensor:
    """(..., d) to (..., m)."""
    rows, columns = token_size(layer.in_features)
    spare = rows * columns - layer.in_features
    tokens = pad(x, (0, spare)).reshape(-1, 1, rows, columns)
    kernels = pad(layer.weight, (0, spare)).reshape(-1, 1, rows, columns)
    answer = _light(kernels, tokens, Geometry(), light, generator).reshape(*x.shape[:-1], -1)
    bias = cast("Tensor | None", layer.bias)
    return answer if bias is None else answer + bias


def _light(weight: Tensor, x: Tensor, geometry: Geometry, light: Light, generator: torch.Generator) -> Tensor:
    """Compute a layer as schedules set it up: kernels share a mask, inputs and fields have headroom."""
    prepare = partial(
        conv_masks,
        weight,
        (x.shape[-2], x.shape[-1]),
        geometry,
        scheme=light.scheme,
        conditions=light.conditions,
        accumulate="optical",
    )
    alone = prepare().gain
    masks = prepare(gain=alone.amin().expand_as(alone))
    signs = light.signs if bool((x < 0).any()) else None
    peak = float(x.detach().abs().max()) or 1.0

    def convolve(peak: float, level: Tensor | None) -> PassResult:
        return optical_conv2d(
            x,
            masks,
            geometry.window,
            accumulate="optical",
            signs=signs,
            peak=peak,
            level=level,
            generator=generator,
        )

    with torch.no_grad():
        level = convolve(peak, None).level.amax()
    groups, kernels = masks.kernel.shape[:2]
    return convolve(peak * HEADROOM, level.expand(1, groups, kernels, 1, 1, 1)).answer


def _is_plain(layer: nn.Conv2d) -> bool:
    numbers = not isinstance(layer.padding, str)
    return numbers and layer.padding_mode == "zeros" and max(layer.kernel_size) > 1


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second
