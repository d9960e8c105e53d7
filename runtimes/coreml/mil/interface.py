"""The face of a package: inputs and outputs as an app meets them, and how they become tensors.

Pictures come as uint8 pixels of shape (1, C, H, W), red first, as a decoded picture has them; a network that
declares BGR gets them swapped, as Core ML does. What a package does to pixels (scale, bias) are operators of
its program. A picture that comes out is given as the program computes it, red first, without clipping to
0..255. A classifier gives its label, and its probabilities in the order of its labels.

Axis letters: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ....errors import UsageError
from ....export.artifact import Array
from ....models.spec import Dim, TensorSpec
from .package import Package, damaged
from .values import Declared, Dictionary, Value, declared, to_tensor

Kind = Literal["tensor", "picture", "label", "probabilities"]
_COLOURS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}
_DTYPES = {65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8", 65552: "float16"}


@dataclass(frozen=True)
class Feature:
    """One input or output."""

    spec: TensorSpec
    kind: Kind
    source: str
    """Name of the value in the program."""
    colours: str = ""
    """Of a picture: ``RGB``, ``BGR``, ``GRAYSCALE`` or ``GRAYSCALE_FLOAT16``."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The only shapes allowed, where they are listed."""
    bounds: tuple[tuple[int, int], ...] = ()
    """Least and largest size of every axis, where ranges are given; -1 for no largest."""
    default: float | None = None
    """What an optional input is filled with when it is not given."""


@dataclass(frozen=True)
class Interface:
    """All inputs, outputs and names of states."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[str, ...]


def interface(package: Package, function: str, body: Any) -> Interface:
    """Read what an app meets.

    Raises:
        BuildError: If the description and the program do not belong together.
    """
    name = package.path.name
    told = _description(package.specification, function)
    types = {i.name: i.type for i in body.inputs}
    states = tuple(i.name for i in body.inputs if i.type.WhichOneof("type") == "stateType")
    results = set(body.block_specializations[body.opset].outputs)
    for feature in told.input:
        if feature.name not in types:
            raise damaged(name, f"the input {feature.name!r} in the program", ", ".join(types) or "no input")
    described = {feature.name for feature in told.input} | set(states)
    if forgotten := sorted(set(types) - described):
        raise damaged(name, f"a description of the input {forgotten[0]!r}", "none")
    inputs = tuple(_input(f, declared(types[f.name], f"{name}, {f.name!r}")) for f in told.input)
    for feature in told.output:
        if feature.name not in results:
            raise damaged(name, f"the output {feature.name!r} in the program", ", ".join(sorted(results)))
    made = _made(body, name)
    return Interface(inputs, tuple(_output(f, told, made.get(f.name)) for f in told.output), states)


def _made(body: Any, name: str) -> dict[str, Declared]:
    """Give the types of everything that the outermost operators compute."""
    operations = body.block_specializations[body.opset].operations
    return {o.name: declared(o.type, f"{name}, {o.name!r}") for op in operations for o in op.outputs}


def complete(feed: Mapping[str, Array], face: Interface) -> dict[str, Array]:
    """Fill in optional inputs that are not given, and hold shapes against what the package allows.

    Raises:
        UsageError: If a shape is not one of those allowed.
    """
    filled = dict(feed)
    for feature in face.inputs:
        name = feature.spec.name
        if (
            name not in filled
            and feature.default is not None
            and all(isinstance(d, int) for d in feature.spec.shape)
        ):
            filled[name] = np.full(feature.spec.concrete(), feature.default, feature.spec.dtype)
        if name in filled:
            _check_allowed(feature, filled[name].shape)
    return filled


def as_checked(face: Interface) -> tuple[TensorSpec, ...]:
    """Give the inputs with free sizes of their own: a package does not say which of them belong together."""
    return tuple(replace(f.spec, shape=_dims(f.spec.name, _sizes(f.spec), first="")) for f in face.inputs)


def _sizes(spec: TensorSpec) -> list[int | None]:
    return [None if isinstance(size, str) else size for size in spec.shape]


def to_value(array: Array, feature: Feature) -> Tensor:
    """Take an input into the program."""
    value = to_tensor(array)
    if feature.kind == "picture":
        value = value.float()
        return value.flip(1) if feature.colours == "BGR" else value
    return value


def to_array(value: Value, feature: Feature) -> Array:
    """Hand an output to the caller, in a new array."""
    if isinstance(value, Dictionary):
        return np.array([float(v) for v in value.items.values() if isinstance(v, Tensor)], np.float32)
    if not isinstance(value, Tensor):
        return np.array(value)
    if feature.colours == "BGR":
        value = value.flip(1)
    return value.numpy().astype(feature.spec.dtype if feature.kind != "label" else np.int64)


def _description(specification: Any, function: str) -> Any:
    described = specification.description
    return next((f for f in described.functions if f.name == function), described)


def _input(feature: Any, told: Declared) -> Feature:
    name, kind = feature.name, feature.type.WhichOneof("Type")
    shape = _dims(name, told.shape)
    if kind == "imageType":
        colours = _COLOURS.get(feature.type.imageType.colorSpace, "")
        dtype = "float16" if colours == "GRAYSCALE_FLOAT16" else "uint8"
        shapes, bounds = _image_sizes(feature.type.imageType, shape)
        return Feature(TensorSpec(name, shape, dtype), "picture", name, colours, shapes, bounds)
    array = feature.type.multiArrayType
    dtype = _DTYPES.get(array.dataType, "float32")
    shapes = tuple(tuple(s.shape) for s in array.enumeratedShapes.shapes)
    bounds = tuple((r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges)
    default = _default(array) if feature.type.isOptional else None
    return Feature(TensorSpec(name, shape, dtype), "tensor", name, "", shapes, bounds, default)


def _output(feature: Any, told: Any, made: Declared | None) -> Feature:
    name, kind = feature.name, feature.type.WhichOneof("Type")
    if kind in ("stringType", "int64Type") and name == told.predictedFeatureName:
        return Feature(TensorSpec(name, (1,), "str" if kind == "stringType" else "int64"), "label", name)
    if kind == "dictionaryType":
        return Feature(TensorSpec(name, ("labels",)), "probabilities", name)
    if kind == "imageType":
        picture = feature.type.imageType
        colours = _COLOURS.get(picture.colorSpace, "")
        shape = (1, 1 if colours.startswith("GRAY") else 3, picture.height, picture.width)
        return Feature(TensorSpec(name, shape), "picture", name, colours)
    array = feature.type.multiArrayType
    # The description of an output whose size depends on the input has no shape; the program has one.
    shape = tuple(array.shape) if array.shape or made is None else _dims(name, made.shape)
    return Feature(TensorSpec(name, shape, _DTYPES.get(array.dataType, "float32")), "tensor", name)


def _dims(name: str, shape: Sequence[int | None] | None, *, first: str = "batch") -> tuple[Dim, ...]:
    free = (first if first and axis == 0 else f"{name}.{axis}" for axis in range(len(shape or ())))
    return tuple(f if size is None else size for f, size in zip(free, shape or (), strict=True))


def _image_sizes(
    picture: Any, shape: tuple[Dim, ...]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, int], ...]]:
    channels = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else 3
    listed = tuple((1, channels, size.height, size.width) for size in picture.enumeratedSizes.sizes)
    if picture.WhichOneof("SizeFlexibility") != "imageSizeRange":
        return listed, ()
    sizes = picture.imageSizeRange
    high, wide = sizes.heightRange, sizes.widthRange
    fixed = ((1, 1), (channels, channels))
    return (), (*fixed, (high.lowerBound, high.upperBound), (wide.lowerBound, wide.upperBound))


def _default(array: Any) -> float:
    kind = array.WhichOneof("defaultOptionalValue")
    return float(getattr(array, kind)) if kind else 0.0


def _check_allowed(feature: Feature, shape: tuple[int, ...]) -> None:
    if feature.shapes and shape not in feature.shapes:
        listed = " or ".join(str(allowed) for allowed in feature.shapes[:6])
        message = f"expected {feature.spec.name} of shape {listed}, got {shape}; reshape it"
        raise UsageError(message)
    if not feature.bounds or len(shape) != len(feature.bounds):
        return
    for axis, (size, (low, high)) in enumerate(zip(shape, feature.bounds, strict=True)):
        if size < low or (high >= 0 and size > high):
            most = f"to {high}" if high >= 0 else "upwards"
            message = f"expected axis {axis} of {feature.spec.name} from {low} {most}, got {size}; reshape it"
            raise UsageError(message)
