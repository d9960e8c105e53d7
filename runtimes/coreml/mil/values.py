"""What flows between operators, and how a specification declares and writes it.

Floats are held in float32 whatever a program declares (see ``program.py`` on rounding), integers in int32,
truth values in bool; strings and dictionaries as Python has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .blobs import bytes_of, decode, known, numpy_type, read_blob
from .package import Package, damaged, inside


@dataclass(frozen=True, eq=False)
class List:
    """A MIL list."""

    items: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A MIL dictionary; keys that are numbers are written out."""

    items: Mapping[str, Value]


Value = Tensor | str | List | Dictionary

MAX_ELEMENTS = 2**28
"""Of one tensor, 1 GiB in float32."""
_MAX_RANK = 8


@dataclass(frozen=True)
class Declared:
    """The type of one value: of a tensor its element type and shape (None where a size is free)."""

    dtype: str
    """Such as ``"float16"``, ``"int32"``, ``"bool"``, ``"string"``; else ``"list"`` or ``"dict"``."""
    shape: tuple[int | None, ...] | None = ()
    """None when even the number of axes is free."""

    @property
    def half(self) -> bool:
        """True for what the program declares fp16."""
        return self.dtype == "float16"


def declared(type_of: Any, where: str) -> Declared:
    """Read a ``ValueType`` message.

    Raises:
        BuildError: If a size is too large or the type is no type.
    """
    kind: str | None = type_of.WhichOneof("type")
    if kind == "stateType":
        return declared(type_of.stateType.wrappedType, where)
    if kind in ("listType", "dictionaryType"):
        return Declared(kind.removesuffix("Type").replace("dictionary", "dict"), None)
    if kind != "tensorType":
        raise damaged(where, "the type of a value", str(kind))
    tensor = type_of.tensorType
    shape = _shape(tensor, where)
    return Declared(_dtype_name(tensor.dataType), shape)


def constant(value: Any, package: Package) -> Value:
    """Read a ``Value`` message, from the specification or from a weight file.

    Raises:
        BuildError: If it does not hold what it declares.
    """
    kind = value.WhichOneof("value")
    if kind == "blobFileValue":
        return _from_file(value, package)
    held = value.immediateValue.WhichOneof("value")
    if held == "tensor":
        return _from_message(value, package)
    if held == "list":
        return List(tuple(constant(item, package) for item in value.immediateValue.list.values))
    if held == "dictionary":
        pairs = value.immediateValue.dictionary.values
        return Dictionary({_key(pair.key, package): constant(pair.value, package) for pair in pairs})
    raise damaged(package.path.name, "a constant", f"a value of kind {held or kind}")


def _key(value: Any, package: Package) -> str:
    key = constant(value, package)
    return str(int(key)) if isinstance(key, Tensor) else str(key)


def to_tensor(array: np.ndarray) -> Tensor:
    """Take an array in: floats become float32, integers int32, truth values stay."""
    if array.dtype.kind == "b":
        return torch.from_numpy(np.array(array))
    wanted = np.float32 if array.dtype.kind == "f" else np.int32
    return torch.from_numpy(np.array(array, dtype=wanted, order="C"))


def _dtype_name(number: int) -> str:
    names: Any = import_module("coremltools.proto.MIL_pb2").DataType
    return names.Name(number).lower() if number in names.values() else f"type {number}"


def _shape(tensor: Any, where: str) -> tuple[int | None, ...] | None:
    sizes: list[int | None] = []
    for dimension in tensor.dimensions:
        if dimension.unknown.variadic:
            return None
        sizes.append(dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None)
    if len(sizes) > _MAX_RANK or math.prod(s for s in sizes if s is not None) > MAX_ELEMENTS:
        raise damaged(where, f"at most {MAX_ELEMENTS} values", f"shape {sizes}", "use a smaller network")
    return tuple(sizes)


def _fixed(value: Any, package: Package) -> tuple[str, tuple[int, ...]]:
    told = declared(value.type, package.path.name)
    shape = told.shape or ()
    sizes = tuple(s for s in shape if s is not None)
    if len(sizes) != len(shape):
        raise damaged(package.path.name, "a constant of fixed shape", f"shape {shape}")
    return told.dtype, sizes


def _from_file(value: Any, package: Package) -> Tensor:
    dtype, shape = _fixed(value, package)
    if not known(dtype):
        raise damaged(package.path.name, "a constant of a known type", dtype)
    file = inside(package, value.blobFileValue.fileName)
    return to_tensor(read_blob(file, value.blobFileValue.offset, dtype, shape))


def _from_message(value: Any, package: Package) -> Value:
    dtype, shape = _fixed(value, package)
    tensor = value.immediateValue.tensor
    held: str | None = tensor.WhichOneof("value")
    if dtype == "string":
        strings = tuple(tensor.strings.values)
        return strings[0] if not shape and len(strings) == 1 else List(strings)
    if held is None or not known(dtype):
        raise damaged(package.path.name, "a constant of a known type", f"{dtype} ({held})")
    stored = getattr(tensor, held).values
    if held == "bytes":
        if len(stored) != bytes_of(dtype, shape):
            raise damaged(package.path.name, f"a constant of shape {list(shape)}", f"{len(stored)} bytes")
        return to_tensor(decode(stored, dtype, shape))
    if len(stored) != math.prod(shape):
        raise damaged(package.path.name, f"a constant of shape {list(shape)}", f"{len(stored)} values")
    return to_tensor(np.asarray(stored, dtype=numpy_type(dtype)).reshape(shape))
