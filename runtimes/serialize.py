"""A graph as the bytes of one ONNX file."""

from __future__ import annotations

import onnx_ir as ir

from ..errors import BuildError
from ..export.artifact import Exported
from .sessions import reason

_MAX_BYTES = (1 << 31) - 1


def serialize(exported: Exported) -> bytes:
    """Write a graph with its weights inside.

    Raises:
        BuildError: If it takes 2 GB or more, which the format cannot hold.
    """
    try:
        data = ir.to_proto(exported.model).SerializeToString()
    except ValueError as error:  # protobuf's own limit
        data, cause = b"", reason(error)
    else:
        cause = f"{len(data)} bytes"
    if not data or len(data) > _MAX_BYTES:
        message = f"expected {exported.name} as one ONNX file below 2 GB, got {cause}; use a smaller model"
        raise BuildError(message)
    return data
