"""OpenVINO can die while it plans a network, and takes the process along; so a child process tries it first.

OpenVINO 2026.4 ends in a segmentation fault at some stacks of attentions of rank 3 once shapes are known:
its fusing of whole attentions into one kernel fails. Without that fusing it plans and answers right.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import BuildError
from .device import Device
from .ov_core import compile_model, core, openvino, without_fusing

_FEWEST_ATTENTIONS = 2
"""A child costs a second, and no crash was seen below this number of Softmax operators."""
_REFUSED = 1
"""Exit code of a child whose plan was refused in an orderly way; the parent will meet the same refusal."""


def plan_safely(model: Any, device: Device) -> None:
    """Mark the model to be planned without fusing, if OpenVINO dies at it otherwise.

    Args:
        model: An ``openvino.Model``.
        device: Where it will be planned.

    Raises:
        BuildError: If OpenVINO dies at it in any case.
    """
    if sum(op.get_type_name() == "Softmax" for op in model.get_ops()) < _FEWEST_ATTENTIONS:
        return
    if _survives(model, device):
        return
    without_fusing(model)
    if not _survives(model, device):
        message = "expected OpenVINO to plan the network, got a crash of OpenVINO; use --device cpu-ort"
        raise BuildError(message)


def _survives(model: Any, device: Device) -> bool:
    """Let a child plan the network; orderly refusals count as survived."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino().save_model(model, path, compress_to_fp16=False)
        command = [sys.executable, "-m", __name__, str(path), device.unit, device.runtime, device.arch]
        return subprocess.run(command, capture_output=True).returncode in (0, _REFUSED)


def _try(path: str, unit: str, runtime: str, arch: str) -> None:
    """Plan a network with free dimensions at size 1, as the first inference will fix them at some size."""
    model = core().read_model(path)
    shapes = {
        port.get_any_name(): [1 if size.is_dynamic else size.get_length() for size in port.partial_shape]
        for port in model.inputs
    }
    try:
        model.reshape(shapes)
        compile_model(model, Device("child", "child", runtime, arch, unit=unit))
    except Exception:
        sys.exit(_REFUSED)


if __name__ == "__main__":
    _try(*sys.argv[1:])
