"""The package that an app wants: a picture goes in, a class label comes out.

It computes what the checked package computes, with the declared preprocessing in front and, where the classes
have names, a softmax behind. It takes one picture of the network's size; Vision resizes for an app. Core
ML has one scale for all channels alike, so that mean and deviation are operators of the program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...export.artifact import Exported
from ...models.labels import check_count, check_unique
from ...models.spec import Preprocess, TensorSpec
from ..device import Device
from .description import describe, introduce, read_specification
from .lower.program import Lowered, lower
from .package import convert, facts_of, made
from .sdk import canonical, coremltools, target_of

LAYOUTS = {"RGB": "RGB", "L": "GRAYSCALE"}
"""Modes of Pillow as coremltools says them."""

LABELS = "fourfold.labels"
"""Under which a package keeps the names of its classes in their order."""


def app_package(
    exported: Exported, preprocess: Preprocess, labels: Sequence[str], device: Device, path: Path
) -> Path:
    """Save a network as a package that takes a picture.

    Args:
        exported: The network, with one input of shape (B, 1 or 3, H, W).
        preprocess: How pictures become its input.
        labels: Names of the classes of its first output; empty for a network that does not classify.
        device: Gives the oldest system.
        path: Of the package, which ends in ``.mlpackage``.

    Raises:
        UsageError: If the network takes no picture, or the labels do not fit its first output.
        BuildError: If it cannot be lowered, or coremltools refuses it.
    """
    single = replace(exported, inputs=_single(exported.inputs), outputs=_single(exported.outputs))
    fitted = check_app(single.inputs, single.outputs, preprocess, labels)
    with made(path, f"{exported.name} with a picture"):
        _save(single, fitted, labels, device, path)
        introduce(path, single)
    return path


def check_app(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    preprocess: Preprocess,
    labels: Sequence[str],
) -> Preprocess:
    """Give the preprocessing with size and mode, for a network that takes one picture.

    Raises:
        UsageError: If the network takes no picture, or the labels do not fit its first output.
    """
    if len(inputs) != 1:
        raise UsageError(f"expected a network with one picture as input, got {len(inputs)} inputs")
    if inputs[0].shape[:1] not in ((1,), ("batch",)):
        raise UsageError(
            f"expected a network that takes one picture at a time, got {inputs[0].name!r} of shape "
            f"{inputs[0].shape}; export it with a free batch"
        )
    check_unique(labels)
    check_count(labels, outputs[0].name, outputs[0].shape)
    if labels and len(outputs[0].shape) != 2:
        raise UsageError(
            f"expected one answer a picture to put labels on, got {outputs[0].name!r} of shape "
            f"{outputs[0].shape}; give no labels"
        )
    return preprocess.fitted(inputs[0])


def file_name(name: str) -> str:
    """Name a package so that Xcode can make a class of its name."""
    clean = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"{clean if clean[:1].isalpha() else f'Net_{clean}'}.mlpackage"


def _single(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Set the batch to one."""
    return tuple(replace(s, shape=tuple(1 if d == "batch" else d for d in s.shape)) for s in specs)


def _save(
    single: Exported, preprocess: Preprocess, labels: Sequence[str], device: Device, path: Path
) -> None:
    lowered = lower(
        single, canonical(device.target), target_of(device.target), pixels=preprocess, classifies=bool(labels)
    )
    picture = _picture(lowered.inputs[0], single.inputs[0].shape, preprocess)
    program = convert(lowered, [picture], device, path, **_classes(labels, lowered.outputs[0]))
    probabilities = read_specification(path).description.predictedProbabilitiesName
    named: Lowered = replace(lowered, outputs=(probabilities or lowered.outputs[0], *lowered.outputs[1:]))
    describe(path, {**facts_of(single, named, device, program), LABELS: json.dumps(list(labels))})


def _picture(name: str, shape: tuple[int | str, ...], preprocess: Preprocess) -> Any:
    ct = coremltools()
    layout = getattr(ct.colorlayout, LAYOUTS[preprocess.mode or "RGB"])
    return ct.ImageType(name=name, shape=shape, color_layout=layout)


def _classes(labels: Sequence[str], output: str) -> dict[str, Any]:
    if not labels:
        return {}
    ct = coremltools()
    config = ct.ClassifierConfig(list(labels), predicted_probabilities_output=output)
    return {"classifier_config": config}
