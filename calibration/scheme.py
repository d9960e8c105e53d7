"""Typed options of quantization: what an engine wants, and what a user asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class QdqStyle:
    """How one engine wants quantization written into the graph, and where it pays there."""

    name: str
    """For example ``"u8s8"``."""
    activations: Literal["uint8", "int8"]
    symmetric_activations: bool
    """True puts every activation's zero point at zero (uint8: 128)."""
    quantize_bias: bool
    """True writes the bias as int32 with a DequantizeLinear; False leaves it in float."""
    operators: frozenset[str]
    """ONNX operators that become integer kernels when wrapped in Q/DQ."""
    float_activations: frozenset[str] = frozenset()
    """Operators next to which int8 was measured to slow the network down."""


@dataclass(frozen=True)
class QuantScheme:
    """What a user may choose, with defaults that fit most networks."""

    observer: str = "minmax"
    """Name in ``observers.OBSERVERS``."""
    per_channel: bool = True
    max_samples: int = 256
    batch: int = 16
    """Samples per collection step; memory is bounded by this, never by ``max_samples``."""
