"""A package for an app, asked about pictures: in Core ML on a Mac, elsewhere in the evaluator of MIL.

Axis letters: H height, W width, C channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BuildError, RunError, UsageError
from ...export.artifact import Array
from ...export.quiet import quiet
from ..device import Device
from ..runtime import AppAnswer, Ask
from ..sessions import reason
from .app import LABELS
from .apple import here, open_model
from .description import read_specification
from .face import Face, broken, face_of


def open_app(app: Path, device: Device) -> Ask:
    """Open a package that takes a picture.

    Raises:
        RunError: If it is damaged, or not made here.
    """
    if not app.exists():
        raise RunError(f"expected Core ML to open {app.name}, got: no such package; compile it again")
    answers = _in_core_ml(app, device) if here() is None else _evaluated(app)
    description = read_specification(app).description
    facts = dict(description.metadata.userDefined)
    face, labels = face_of(app.name, facts), tuple(map(str, json.loads(facts.get(LABELS, "[]"))))

    def ask(pixels: Array) -> AppAnswer:
        given = answers(face.features[0][0], pixels)
        label = given.get(description.predictedFeatureName, "") if labels else ""
        return AppAnswer(_outputs(face, given, labels), str(np.asarray(label).reshape(-1)[0]))

    return ask


def _outputs(face: Face, given: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Array]:
    """Give the answers as arrays; Core ML gives probabilities by label."""
    found: dict[str, Array] = {}
    for spec, feature in zip(face.outputs, face.features[1], strict=True):
        value = given[feature]
        listed: Any = [value[label] for label in labels] if isinstance(value, Mapping) else value
        found[spec.name] = np.asarray(listed).astype(spec.dtype).reshape(spec.concrete())
    return found


def _evaluated(app: Path) -> Any:
    from .mil.program import load_program

    try:
        program = load_program(app)
    except (BuildError, UsageError) as error:
        raise broken(app.name, error) from error

    def answers(name: str, pixels: Array) -> Mapping[str, Any]:
        planes = pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None]
        try:
            with quiet():  # torch warns about kernels of its own
                return program.run({name: np.ascontiguousarray(planes)})
        except BuildError as error:
            message = f"expected {app.name} to evaluate, got: {error}; export it again"
            raise RunError(message) from error

    return answers


def _in_core_ml(app: Path, device: Device) -> Any:
    from PIL import Image

    model = open_model(app, device)

    def answers(name: str, pixels: Array) -> Mapping[str, Any]:
        try:
            return model.predict({name: Image.fromarray(pixels)})
        except Exception as error:  # Core ML's own errors arrive as bare RuntimeErrors
            message = f"expected Core ML to run {app.name}, got: {reason(error)}; verify the bundle"
            raise RunError(message) from error

    return answers
