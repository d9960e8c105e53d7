"""Typed options of quantization: what an engine wants, and what a user asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    outputs: frozenset[str] = frozenset()
    """Those of ``operators`` whose integer kernel also needs its answer quantized."""
    symmetric_inputs: frozenset[str] = frozenset()
    """Operators whose inputs have their zero point at zero even where others have not."""
    unsigned_positive: bool = False
    """True stores a symmetric activation that is never negative as uint8, which keeps all its levels."""
    activation_products: bool = False
    """True also quantizes a MatMul of two activations, as attention has."""
    float_activations: frozenset[str] = frozenset()
    """Operators next to which int8 was measured to slow the network down."""
    pays_from: int = 0
    """Multiplications per output value from which a node is quantized even next to those."""
    refuses_new_axes: bool = False
    """True leaves a layer in float whose answer is given a new last axis: no scale can be carried past it."""


@dataclass(frozen=True)
class QuantScheme:
    """What a user may choose, with defaults that fit most networks."""

    observer: str = "minmax"
    """Name in ``observers.OBSERVERS``."""
    per_channel: bool = True
    max_samples: int = 256
    batch: int = 16
    """Samples per collection step; memory is bounded by this, never by ``max_samples``."""
    reduce_range: bool = False
    """True keeps weights to 7 bits: without VNNI a CPU adds two u8*s8 products in 16 bits, which overflow."""
    keep_first: bool = False
    """True leaves the first layer with weights in float."""
    keep_last: bool = False
    """True leaves the last layer with weights in float."""
    keep: frozenset[str] = frozenset()
    """Names of nodes, or of their first output, that stay in float."""


_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_BETWEEN = frozenset({"MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})

ORT_X86 = QdqStyle(
    name="u8s8",
    activations="uint8",
    symmetric_activations=False,
    quantize_bias=True,
    operators=_LAYERS | _BETWEEN | {"Add", "Concat", "GlobalAveragePool", "AveragePool"},
    outputs=frozenset({"Conv", "Add", "Concat", "GlobalAveragePool", "AveragePool"}),
    float_activations=frozenset({"Sigmoid", "HardSwish", "HardSigmoid", "Erf", "Tanh", "Elu", "Mish"}),
    pays_from=100,
)
"""ONNX Runtime on x86: QLinearConv and QGemm want uint8 activations and an int32 bias.

Gelu is one operator there, and small layers beside it were measured to gain from integers; beside a Sigmoid,
which is two with its product, they lose.
"""

OPENVINO = QdqStyle(
    name="u8s8 and s8s8",
    activations="uint8",
    symmetric_activations=False,
    quantize_bias=False,
    operators=_LAYERS | _BETWEEN | {"ConvTranspose", "Add", "Concat", "GlobalAveragePool", "AveragePool"},
    symmetric_inputs=frozenset({"Gemm", "MatMul"}),
    unsigned_positive=True,
    activation_products=True,
    refuses_new_axes=True,
)
"""OpenVINO: integer kernels write float answers themselves; its matrix products pay for zero points. It
refuses the whole graph (seen in 2026.4) when a scale by channel has to pass an Unsqueeze of the last axis."""

SYMMETRIC = QdqStyle(
    name="s8s8",
    activations="int8",
    symmetric_activations=True,
    quantize_bias=False,
    operators=_LAYERS | _BETWEEN | {"ConvTranspose", "Add", "Concat", "GlobalAveragePool", "AveragePool"},
    activation_products=True,
)
"""TensorRT: int8 on both sides, zero at zero, bias in float."""

COREML = replace(SYMMETRIC, name="s8s8 coreml", unsigned_positive=True, quantize_bias=True)
"""Core ML: int8 on both sides with zero at zero, or uint8 where nothing is negative.

The bias stands on the grid of the sums, which the package holds in float: whether a kernel adds it to
integers, as ONNX Runtime's do after rounding any other bias, or to floats, the answer is the same.
"""

ARM = replace(ORT_X86, name="u8s8 arm")
"""ONNX Runtime on ARM: its kernels take the same pairs; not timed on such a machine yet."""
