"""The package that an app wants: a picture goes in, a class label comes out.

It computes what the checked package computes, with the declared preprocessing in front and, where the classes
have names, a softmax behind. It takes one picture of the network's size; Vision resizes for an app. Core
ML has one scale for all channels alike, so that mean and deviation are operators of the program.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import BuildError, UsageError
from ...export.artifact import Exported
from ...export.quiet import quiet
from ...models.spec import Preprocess
from ..device import Device
from ..sessions import reason
from .lower.graph import Refused
from .lower.program import lower
from .package import convert, describe
from .sdk import canonical, coremltools, target_of

LAYOUTS = {"RGB": "RGB", "L": "GRAYSCALE"}
"""Modes of Pillow as coremltools says them."""


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
        UsageError: If the network takes no picture.
        BuildError: If it cannot be lowered, or coremltools refuses it.
    """
    if len(exported.inputs) != 1:
        raise UsageError(f"expected a network with one picture as input, got {len(exported.inputs)} inputs")
    fitted = preprocess.fitted(exported.inputs[0])
    one = tuple(replace(s, shape=tuple(1 if d == "batch" else d for d in s.shape)) for s in exported.inputs)
    try:
        with quiet():
            target = target_of(device.target)
            lowered = lower(
                replace(exported, inputs=one),
                canonical(device.target),
                target,
                pixels=fitted,
                classifies=bool(labels),
            )
            convert(
                lowered, [_picture(lowered.inputs[0], one[0].shape, fitted)], device, path, **_face(labels)
            )
            describe(path, {}, short=f"{exported.name} in {exported.precision}, written by fourfold")
    except Exception as error:  # coremltools raises bare exceptions of many kinds
        shutil.rmtree(path, ignore_errors=True)
        why = str(error) if isinstance(error, Refused) else f"coremltools says: {reason(error)}"
        message = f"expected Core ML to accept {exported.name} with a picture, got: {why}; change the model"
        raise BuildError(message) from error
    return path


def _picture(name: str, shape: tuple[int | str, ...], preprocess: Preprocess) -> Any:
    ct = coremltools()
    layout = getattr(ct.colorlayout, LAYOUTS[preprocess.mode or "RGB"])
    return ct.ImageType(name=name, shape=shape, color_layout=layout)


def _face(labels: Sequence[str]) -> dict[str, Any]:
    return {"classifier_config": coremltools().ClassifierConfig(list(labels))} if labels else {}
