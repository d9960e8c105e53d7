"""A torch network whose convolutions and linear layers are computed by simulated light, gradients included.

While ``in_light`` lasts, every convolution and linear layer with fixed kernels answers with what the camera
would have read. It is lowered, scheduled, set up and simulated by the code that compiled programs run on
(``lower``, ``settle``, ``passes``), so its noise is the device's own: channels per exposure, electrons, bits
and scheme. Gradients pass it as if light had computed the layer exactly (straight-through; 1308.3432)::

    forwards   y = what light gives        backwards   dy = d(layer)

Layers are set up on the first samples of every batch, as a device is on real samples.

Axes: B batch, G groups, C channels and M kernels of a group, H W picture, k l kernel, d features, m outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...errors import UsageError
from ...export.artifact import Array
from .lower import Layer, lower_conv, lower_linear, picture_size
from .passes import Optics, Setting
from .presets import System
from .rounding import through
from .settle import fits, scheduled, setting_of
from .vary import Adjust, as_it_is

SET_UP_ON = 4
"""Samples that a layer is set up on."""

_CALLS: dict[Callable[..., Any], tuple[str, ...]] = {
    functional.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    functional.linear: ("input", "weight", "bias"),
}


@dataclass(frozen=True)
class Light:
    """The device that computes."""

    system: System
    adjust: Adjust = as_it_is
    """What differs from the conditions of its layers."""
    batch: int = 32
    """Samples that schedules are made for."""


def optical_layers(module: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Give the layers that light can compute, by name: what has fixed kernels of more than one pixel."""
    modules = cast("Iterable[tuple[str, nn.Module]]", module.named_modules())
    return {
        name: layer
        for name, layer in modules
        if (isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1)
        or (isinstance(layer, nn.Linear) and layer.in_features > 1)
    }


@contextmanager
def in_light(module: nn.Module, light: Light, generator: torch.Generator) -> Generator[tuple[str, ...]]:
    """Let light compute the layers of a network inside the block.

    Args:
        module: Any network whose first input begins with the batch; its parameters stay where they are.
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
    mode = _InLight({id(layer.weight): name for name, layer in layers.items()}, light, generator)
    hook = module.register_forward_pre_hook(mode.begin)
    try:
        with mode:
            yield tuple(layers)
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Place:
    """One call in its place on the device."""

    layer: Layer
    kernels: Tensor
    setting: Setting
    levels: Tensor


class _InLight(TorchFunctionMode):
    """Answers calls of convolutions and linear layers whose weights it knows."""

    def __init__(self, names: Mapping[int, str], light: Light, generator: torch.Generator) -> None:
        super().__init__()
        self._names, self._light, self._generator = names, light, generator
        self._schedules: dict[int, Setting] = {}
        self._places: list[_Place | None] = []
        self._call, self._samples = 0, 0
        """Calls of this pass so far, and samples while layers are set up, else 0."""

    def begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Set every layer up on what the network without light makes of the first samples."""
        if self._samples:
            return
        few = tuple(x[:SET_UP_ON] if isinstance(x, Tensor) else x for x in inputs)
        self._places, self._samples = [], few[0].shape[0]
        try:
            with torch.no_grad():
                module(*few)
        finally:
            self._call, self._samples = 0, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function, and let light answer in its place where it can."""
        exact = func(*args, **(kwargs or {}))
        known = _CALLS.get(func)
        given = dict(zip(known or (), args, strict=False)) | dict(kwargs or {})
        name = self._names.get(id(given.get("weight")))
        if known is None or name is None:
            return exact
        if self._samples:
            self._places.append(self._set_up(len(self._places), name, given))
            return exact
        number, self._call = self._call, self._call + 1
        place = self._places[number] if number < len(self._places) else None
        return exact if place is None else through(self._computed(place, given), exact)

    def _set_up(self, number: int, name: str, given: Mapping[str, Any]) -> _Place | None:
        """Put a layer in its place, None where its pictures are larger than the plane."""
        x, system = cast("Tensor", given["input"]), self._light.system
        # The graph of a network does not know that its input has no negative pixel.
        layer, kernels = _lowered(name, given, signed=number == 0 or bool((x < 0).any()))
        count, height, width = picture_size(layer, tuple(x.shape))
        if not fits(layer, (height, width), system):
            return None
        if number not in self._schedules:
            pictures = -(-layer.pictures(count) // self._samples) * self._light.batch
            chosen = scheduled(layer, pictures, (height, width), system)
            self._schedules[number] = setting_of(layer, chosen, system)
        setting, shown = self._schedules[number], torch.from_numpy(kernels)
        peak, levels = Optics(layer, shown, setting, system).measure(x)
        return _Place(layer, shown, replace(setting, peak=peak), levels)

    @torch.no_grad()
    def _computed(self, place: _Place, given: Mapping[str, Any]) -> Tensor:
        x = cast("Tensor", given["input"])
        layer = replace(place.layer, signed_input=place.layer.signed_input or bool((x < 0).any()))
        optics = Optics(layer, place.kernels, place.setting, self._light.system, self._light.adjust)
        answer, bias = optics.run(x, place.levels, self._generator), given.get("bias")
        if bias is None:
            return answer
        return answer + (bias if layer.kind == "linear" else bias[:, None, None])


def _lowered(name: str, given: Mapping[str, Any], *, signed: bool) -> tuple[Layer, Array]:
    """Lower a call as its node in a graph."""
    weight: Array = given["weight"].detach().numpy()
    if weight.ndim == 2:
        return lower_linear(name, weight.T, signed_input=signed)
    stride, dilation = (_pair(given.get(key, 1)) for key in ("stride", "dilation"))
    pads = _pads(given.get("padding", 0), (weight.shape[2], weight.shape[3]), dilation)
    return lower_conv(
        name,
        weight,
        groups=given.get("groups", 1),
        strides=stride,
        dilations=dilation,
        pads=pads,
        signed_input=signed,
    )


def _pads(
    padding: str | int | Sequence[int], kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, ...]:
    """Give top, left, bottom, right; ``same`` puts what is odd below and to the right."""
    if not isinstance(padding, str):
        return (*_pair(padding), *_pair(padding))
    total = [d * (k - 1) * (padding == "same") for k, d in zip(kernel, dilation, strict=True)]
    return (*(n // 2 for n in total), *(n - n // 2 for n in total))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return value[0], value[-1]
