"""Golden inputs and answers from a file of anybody's making: ``.safetensors`` or ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array, Golden
from .bundle import INPUT, OUTPUT


def read_golden(path: Path, inputs: Collection[str], outputs: Collection[str]) -> Golden:
    """Read the inputs of one run and the answers to it.

    Args:
        path: Arrays by the names of inputs and outputs; as bundles have them, ``in.NAME`` and ``out.NAME``.
        inputs: Names of the network's inputs, all of which must be there.
        outputs: Names of its outputs, of which one must be there.

    Raises:
        UsageError: If the file is not readable, or holds other names.
    """
    arrays = _arrays(path)
    feed = {name: _named(arrays, name, INPUT) for name in inputs}
    answers = {name: _named(arrays, name, OUTPUT) for name in outputs}
    absent = sorted(name for name, array in feed.items() if array is None)
    found = {name: array for name, array in answers.items() if array is not None}
    held = ", ".join(sorted(arrays)[:8]) or "nothing"
    if absent or not found:
        lacking = f"the input {absent[0]!r}" if absent else f"one of the outputs {', '.join(outputs)}"
        raise UsageError(f"{path.name}: expected {lacking}, got {held}; name its arrays as the network does")
    return Golden({name: array for name, array in feed.items() if array is not None}, found)


def _named(arrays: dict[str, Array], name: str, prefix: str) -> Array | None:
    return arrays.get(prefix + name, arrays.get(name))


def _arrays(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise UsageError(f"expected a file of golden answers, got {path}, which is no file; check the path")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        return load(path.read_bytes())
    except (SafetensorError, KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        message = (
            f"{path.name}: expected arrays as .safetensors or .npz, got {type(error).__name__} ({error})"
        )
        raise UsageError(f"{message}; write it again") from error
