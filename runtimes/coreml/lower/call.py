"""One operator of the graph while it is lowered: its inputs as they are known so far, and its attributes.

A value is an array that is known now, a `Weight` stored in integers, a MIL variable, or one in too many
dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from ....export.artifact import Array
from ..sdk import builder, mil
from .folded import MOST_DIMENSIONS, Folded
from .weight import Weight

Var = Any
"""A variable of coremltools, which has no types of its own."""
Held = Any
"""``Array | Weight | Folded | Var``."""
Given = Held | None
Lower = Callable[["Call"], Held]
"""Lowers one operator; gives its output, or a tuple of outputs with None for those that cannot be had."""

_NARROW = {"int64": "int32", "uint64": "int32", "uint32": "int32", "int16": "int32", "uint16": "int32"}
_BYTES = {"int8": "int32", "uint8": "int32"}
_INT32 = np.iinfo(np.int32)


class Unsupported(Exception):
    """An operator, or a use of one, that has no exact form in MIL; the message is the reason."""


@dataclass
class Scope:
    """The values of a graph, and of the graphs around it."""

    system: str
    """Oldest system that the program runs on, such as ``iOS17``."""
    opset: int
    functions: Mapping[str, Lower]
    symbols: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What MIL calls each free size of the network's inputs."""
    sources: tuple[Var, ...] = ()
    """The network's inputs, whose shapes hold those sizes."""
    values: dict[ir.Value, Held] = field(default_factory=dict[ir.Value, Held])

    def inner(self) -> Scope:
        """Open a scope for the body of an If, a Loop or a Scan."""
        return replace(self, values=dict(self.values))


@dataclass(frozen=True)
class Call:
    """One node in a scope."""

    node: ir.Node
    scope: Scope

    @property
    def mb(self) -> Any:
        """The builder of MIL operators."""
        return builder()

    # Inputs.

    def held(self, index: int) -> Given:
        """Give an input as it is known; None when it is left out."""
        if index >= len(self.node.inputs) or (value := self.node.inputs[index]) is None:
            return None
        return self.scope.values[value]

    def array(self, index: int) -> Array | None:
        """Give an input that is known now; None for everything a run can change, and for one left out."""
        return known(self.held(index))

    def need(self, index: int, what: str) -> Array:
        """Give an input that must be known now.

        Raises:
            Unsupported: If it is computed by the network.
        """
        array = self.array(index)
        if array is None:
            raise Unsupported(f"{what} must be a constant")
        return array

    def var(self, index: int) -> Var:
        """Give an input as a variable."""
        return variable(self.held(index))

    def count(self) -> int:
        """Count the inputs, those left out included."""
        return len(self.node.inputs)

    # Attributes.

    def int(self, name: str, default: int = 0) -> int:
        """Give an integer attribute."""
        return self.node.attributes.get_int(name, default)

    def float(self, name: str, default: float = 0.0) -> float:
        """Give a float attribute."""
        return self.node.attributes.get_float(name, default)

    def text(self, name: str, default: str = "") -> str:
        """Give a string attribute."""
        return self.node.attributes.get_string(name, default)

    def ints(self, name: str) -> list[int] | None:
        """Give an attribute that is a list of integers; None when it is left out."""
        found = self.node.attributes.get_ints(name, None)
        return None if found is None else list(found)

    def has(self, name: str) -> bool:
        """Say whether an attribute is given."""
        return name in self.node.attributes

    def asks(self, output: int) -> bool:
        """Say whether an output is used."""
        outputs = self.node.outputs
        return output < len(outputs) and bool(outputs[output].uses() or outputs[output].is_graph_output())


def known(held: Given) -> Array | None:
    """Give the array behind a value, also behind a variable whose value is already certain."""
    if held is None or isinstance(held, np.ndarray):
        return cast("Array | None", held)
    if isinstance(held, Weight):
        return held.array()
    if isinstance(held, Folded):
        return None
    return None if held.val is None else np.asarray(held.val)


def variable(held: Held) -> Var:
    """Make a variable of a value.

    Raises:
        Unsupported: If Core ML has no tensor of so many dimensions.
    """
    if isinstance(held, Folded):
        raise Unsupported(f"a tensor of {len(held.shape)} dimensions, and Core ML takes {MOST_DIMENSIONS}")
    if isinstance(held, Weight):
        return held.var()
    return constant(cast("Array", held)) if isinstance(held, np.ndarray) else held


def constant(array: Array) -> Var:
    """Put an array into the program."""
    return builder().const(val=narrow(array))


def narrow(array: Array) -> Array:
    """Give an array in a type that MIL has; whole numbers beyond 32 bits stop at the ends."""
    name = array.dtype.name
    if name == "float64":
        return array.astype(np.float32)
    if name in _NARROW:
        return np.clip(array, _INT32.min, _INT32.max).astype(np.int32)
    return array.astype(np.int32) if name in _BYTES else array


def dtype_of(var: Var) -> np.dtype[Any]:
    """Give the numpy type of a variable's elements."""
    return np.dtype(mil().types.nptype_from_builtin(var.dtype))


def like(var: Var, value: float | Sequence[float] | Array) -> Array:
    """Give numbers in the type of a variable."""
    return np.asarray(value, dtype_of(var))


def shape_of(held: Held) -> tuple[Any, ...]:
    """Give the shape: sizes, and symbols for free dimensions."""
    return tuple(held.shape)


def sizes_of(held: Held, what: str) -> tuple[int, ...]:
    """Give a shape without free dimensions.

    Raises:
        Unsupported: If one of them is free.
    """
    shape = shape_of(held)
    if not all(fixed(dim) for dim in shape):
        raise Unsupported(f"{what} must have a fixed shape")
    return tuple(int(dim) for dim in shape)


def fixed(dim: Any) -> bool:
    """Say whether a dimension has a size; sympy has integers of its own."""
    return isinstance(dim, int | np.integer) or bool(dim.is_Integer)


def size(held: Held, axis: int, what: str) -> int:
    """Give the size along an axis.

    Raises:
        Unsupported: If it is free.
    """
    dim = shape_of(held)[axis]
    if not fixed(dim):
        raise Unsupported(f"{what} must have a fixed size along axis {axis}")
    return int(dim)


def rank_of(held: Held) -> int:
    """Give the number of dimensions."""
    return len(shape_of(held))


def is_float(var: Var) -> bool:
    """Say whether a variable holds floating-point numbers."""
    return dtype_of(var).kind == "f"


def is_bool(var: Var) -> bool:
    """Say whether a variable holds truth values."""
    return dtype_of(var).kind == "b"
