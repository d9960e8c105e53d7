"""A torch network whose convolutions and linear layers are computed by simulated light, gradients included.

While ``in_light`` lasts, every convolution and linear layer with fixed kernels answers with what the camera
would have read. It is lowered, scheduled, set up and simulated by the code that compiled programs run on
(``lower``, ``settle``, ``passes``), so its noise is the device's own: channels per exposure, electrons, bits
and scheme. Gradients pass it as if light had computed the layer exactly (straight-through; 1308.3432)::

    forwards   y = what light gives        backwards   dy = d(layer)

Layers are set up on samples (``set_up``) as a device is. Whoever changes their kernels has the ranges follow
what the first samples show, after every change, and sets up anew now and then.

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
from .set_up import BATCH, set_up
from .settle import fits, scheduled, setting_of
from .vary import Adjust, as_it_is

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
def in_light(
    module: nn.Module, light: Light, samples: Tensor, generator: torch.Generator
) -> Generator[InLight]:
    """Let light compute the layers of a network inside the block.

    Args:
        module: Any network of one input that begins with the batch; its parameters stay where they are.
        light: The device.
        samples: Real inputs to set it up on. Shape (B, ...).
        generator: Of all noise.

    Yields:
        The device, which can be set up anew.

    Raises:
        UsageError: If there is no layer that light computes.
    """
    layers = optical_layers(module)
    if not layers:
        message = "expected a network with convolutions or linear layers, got none; light has nothing to do"
        raise UsageError(message)
    mode = InLight(module, {id(layer.weight): name for name, layer in layers.items()}, light, generator)
    hook = module.register_forward_pre_hook(mode.begin)
    try:
        with mode:
            mode.set_up(samples)
            yield mode
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Place:
    """One call in its place on the device."""

    layer: Layer
    setting: Setting
    levels: Tensor
    first: tuple[float, Tensor]
    """Largest input, and largest answers to it (``Optics.largest``), on the first samples."""


class InLight(TorchFunctionMode):
    """Answers calls of convolutions and linear layers whose weights it knows."""

    def __init__(
        self, module: nn.Module, names: Mapping[int, str], light: Light, generator: torch.Generator
    ) -> None:
        super().__init__()
        self._module, self._names, self._light, self._generator = module, names, light, generator
        self._schedules: dict[int, Setting] = {}
        self._places: list[_Place | None] = []
        self._samples = torch.empty(0)
        """The first of those that it is set up on."""
        self._call = 0
        """Calls of this pass so far."""
        self._shown: list[tuple[str, dict[str, Any]]] | None = None
        """Calls of a pass that sets layers up; None while light computes."""

    @property
    def names(self) -> tuple[str, ...]:
        """Layers that light computes."""
        return tuple(self._names.values())

    @torch.no_grad()
    def set_up(self, samples: Tensor) -> None:
        """Set every layer up on what the network without light makes of samples.

        Args:
            samples: Its inputs. Shape (B, ...).
        """
        starts = range(0, samples.shape[0], BATCH)
        passes = [self._watch(samples[start : start + BATCH]) for start in starts]
        placed = [
            self._placed(number, [one[number] for one in passes], samples.shape[0])
            for number in range(len(passes[0]))
        ]
        optics = [one for one in placed if one is not None]
        inputs: list[list[Tensor]] = [
            [calls[number][1]["input"] for number, one in enumerate(placed) if one is not None]
            for calls in passes
        ]
        ready = set_up(optics, lambda: inputs) if optics else []
        found = iter(
            _Place(one.layer, at.setting, at.levels, _shown(one.having(at.setting), x))
            for one, at, x in zip(optics, ready, inputs[0], strict=True)
        )
        self._places = [None if one is None else next(found) for one in placed]
        self._samples = samples[:BATCH]

    @torch.no_grad()
    def follow(self) -> None:
        """Move all ranges by what kernels that changed make of the first samples."""
        calls = self._watch(self._samples)
        self._places = [
            place and self._followed(place, *call) for place, call in zip(self._places, calls, strict=True)
        ]

    def _followed(self, place: _Place, name: str, given: Mapping[str, Any]) -> _Place:
        """Move the ranges of one layer."""
        x = cast("Tensor", given["input"])
        peak = place.setting.peak * _ratio(x.abs().max(), torch.tensor(place.first[0])).item()
        setting = replace(place.setting, peak=peak)
        first = _shown(self._optics(place, name, given).having(setting), x)
        levels = place.levels * _ratio(first[1], place.first[1])
        return _Place(place.layer, setting, levels, first)

    def begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Begin a pass."""
        self._call = 0

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
        if self._shown is not None:
            self._shown.append((name, given))
            return exact
        number, self._call = self._call, self._call + 1
        place = self._places[number] if number < len(self._places) else None
        return exact if place is None else through(self._computed(name, place, given), exact)

    def _watch(self, part: Tensor) -> list[tuple[str, dict[str, Any]]]:
        """Run without light and give the calls that it could answer."""
        self._shown = []
        try:
            self._module(part)
            return self._shown
        finally:
            self._shown = None

    def _placed(self, number: int, calls: list[tuple[str, dict[str, Any]]], samples: int) -> Optics | None:
        """Put a layer in its place, None where its pictures are larger than the plane."""
        name, given = calls[0]
        system = self._light.system
        # The graph of a network does not know that its input has no negative pixel.
        signed = number == 0 or any(bool((one["input"] < 0).any()) for _, one in calls)
        layer, kernels = _lowered(name, given, signed=signed)
        counts = [picture_size(layer, tuple(one["input"].shape)) for _, one in calls]
        size = counts[0][1:]
        if not fits(layer, size, system):
            return None
        if number not in self._schedules:
            pictures = -(-layer.pictures(sum(count for count, *_ in counts)) // samples) * self._light.batch
            chosen = scheduled(layer, pictures, size, system)
            self._schedules[number] = setting_of(layer, chosen, system)
        setting = self._schedules[number]
        return Optics(layer, torch.from_numpy(kernels), setting, system, self._light.adjust)

    @torch.no_grad()
    def _computed(self, name: str, place: _Place, given: Mapping[str, Any]) -> Tensor:
        optics = self._optics(place, name, given)
        answer, bias = optics.run(given["input"], place.levels, self._generator), given.get("bias")
        if bias is None:
            return answer
        return answer + (bias if place.layer.kind == "linear" else bias[:, None, None])

    def _optics(self, place: _Place, name: str, given: Mapping[str, Any]) -> Optics:
        """Put the kernels of now into a place."""
        signed = place.layer.signed_input or bool((given["input"] < 0).any())
        layer, kernels = _lowered(name, given, signed=signed)
        light = self._light
        return Optics(layer, torch.from_numpy(kernels), place.setting, light.system, light.adjust)


def _shown(optics: Optics, x: Tensor) -> tuple[float, Tensor]:
    """Give the largest input and the largest answers to it."""
    return float(x.abs().max()), optics.largest(x)[0]


def _ratio(now: Tensor, then: Tensor) -> Tensor:
    """Divide, and give 1 where nothing was to be seen."""
    return torch.where((now > 0) & (then > 0), now / then, torch.ones_like(now))


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
