"""How arrays of the network meet the features of a package: names, types and ranks of both sides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import BuildError, FourfoldError, RunError, UsageError
from ...export.artifact import Array, Feed
from ...models.spec import TensorSpec
from ..sessions import reason, specs_from_json
from .account import Entry
from .mil.package import read_package
from .stored import FACT, Stored, from_json


@dataclass(frozen=True)
class Face:
    """What a package of ours says of itself."""

    inputs: tuple[TensorSpec, ...]
    """Of the network."""
    outputs: tuple[TensorSpec, ...]
    features: tuple[tuple[str, ...], tuple[str, ...]]
    """Names of inputs and outputs in the package, in the order of the network's."""
    system: str
    precision: str
    operators: tuple[Entry, ...]
    weights: tuple[Stored, ...] = ()
    """Those in fewer bits than they are computed with."""

    def to_package(self, feed: Feed) -> dict[str, Array]:
        """Turn checked inputs into those of the package, whose whole numbers have 32 bits."""
        return {
            name: _narrow(feed[spec.name]).reshape(feed[spec.name].shape or (1,))
            for spec, name in zip(self.inputs, self.features[0], strict=True)
        }

    def from_package(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        """Turn answers of the package into those of the network."""
        given = zip(self.outputs, self.features[1], strict=True)
        return {spec.name: _shaped(answers[name], spec) for spec, name in given}


def face_of(path: str, facts: Mapping[str, str]) -> Face:
    """Read what a package says of itself.

    Raises:
        RunError: If it was not made here.
    """
    try:
        inputs, outputs = json.loads(facts["fourfold.features"])
        return Face(
            specs_from_json(facts["fourfold.inputs"]),
            specs_from_json(facts["fourfold.outputs"]),
            (tuple(inputs), tuple(outputs)),
            facts["fourfold.target"],
            facts["fourfold.precision"],
            tuple((str(k), str(p), int(n)) for k, p, n in json.loads(facts["fourfold.operators"])),
            from_json(facts[FACT]) if FACT in facts else (),
        )
    except (KeyError, ValueError, TypeError) as error:
        message = f"expected {path} to be a package of ours, got: {reason(error)}; compile it again"
        raise RunError(message) from error


def read_face(path: Path) -> Face:
    """Read the face of a saved package.

    Raises:
        RunError: If there is none, or it is damaged.
    """
    try:
        specification = read_package(path).specification
    except (BuildError, UsageError) as error:
        raise broken(path.name, error) from error
    return face_of(path.name, dict(specification.description.metadata.userDefined))


def broken(name: str, error: FourfoldError) -> RunError:
    """Build the error for a package that cannot be opened."""
    return RunError(f"expected Core ML to open {name}, got: {error}; compile it again")


def _narrow(array: Array) -> Array:
    if array.dtype.kind in "iub":
        return array.astype(np.int32)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _shaped(answer: Array, spec: TensorSpec) -> Array:
    """Bring an answer to the type of the network; a scalar has one axis in a package."""
    array = np.asarray(answer)
    if len(spec.shape) != array.ndim and array.size == 1:
        array = array.reshape((1,) * len(spec.shape))
    return array.astype(spec.dtype)
