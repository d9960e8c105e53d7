"""Which nodes light computes and which stay electronic, with a reason for every node.

Light adds and multiplies with fixed numbers: a node becomes passes when it is a convolution or a linear layer
whose weights are constants. A mask cannot be written anew for every sample, so the products of attention
(Q K^T and A V) and every kernel that depends on the data stay electronic; so do non-linear functions,
statistics of the data, and what only moves data. A kernel of one pixel needs no lens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ...export.artifact import Array
from ...export.rules.graph import input_of, integer, integers, is_op
from .constants import constant_of, never_negative
from .lower import Layer, lower_conv, lower_linear
from .reasons import SUMS, TWO_TENSORS, why_electronic

_NUMBERS = (np.dtype(np.float32), np.dtype(np.float64))


class Lowered(NamedTuple):
    """One node as passes."""

    layer: Layer
    kernels: Array
    """(G, M, C, k, l)."""
    bias: Array | None
    """Added electronically: broadcasts against the node's output."""
    source: str
    """Name of the value that goes in."""
    target: str
    """Name of the value that comes out."""


@dataclass(frozen=True)
class Placement:
    """Where one node is computed, and why."""

    node: str
    operator: str
    optical: bool
    reason: str


class Partition(NamedTuple):
    """A whole graph, in its order."""

    placements: tuple[Placement, ...]
    lowered: Mapping[str, Lowered]
    """Of the optical nodes, by the name of their output."""


def partition(model: ir.Model) -> Partition:
    """Decide for every node of the main graph.

    Args:
        model: The graph; every node has an output with a name.
    """
    placements: list[Placement] = []
    lowered: dict[str, Lowered] = {}
    for number, node in enumerate(model.graph):
        name = node.name or f"{node.op_type}_{number}"
        found = _lower(node, name)
        if isinstance(found, Lowered):
            lowered[found.target] = found
            placements.append(Placement(name, node.op_type, True, _why_optical(found.layer)))
        else:
            placements.append(Placement(name, node.op_type, False, found))
    return Partition(tuple(placements), lowered)


def _lower(node: ir.Node, name: str) -> Lowered | str:
    """Lower a node, or say why not."""
    if is_op(node, "Conv"):
        return _lower_conv(node, name)
    if is_op(node, "MatMul"):
        return _lower_matmul(node, name)
    if is_op(node, "Gemm"):
        return _lower_gemm(node, name)
    return why_electronic(node)


def _lower_conv(node: ir.Node, name: str) -> Lowered | str:
    weights = constant_of(input_of(node, 1))
    if weights is None:
        return "its kernel depends on the data: a mask cannot be rewritten for every sample"
    if weights.ndim not in (3, 4):
        return f"a convolution in {weights.ndim - 2} dimensions: a plane has two"
    if weights.dtype not in _NUMBERS:
        return f"its weights are {weights.dtype}: kernels are float32 or float64"
    if max(weights.shape[2:]) == 1:
        return "a kernel of one pixel needs no lens: it is a sum over channels"
    dims = weights.ndim - 2
    strides, dilations = integers(node, "strides", [1] * dims), integers(node, "dilations", [1] * dims)
    pads = _pads(node, weights.shape[2:], strides, dilations)
    if pads is None:
        return "its padding depends on the size of the input, which is free"
    layer, kernels = lower_conv(
        name,
        weights,
        groups=integer(node, "group", 1),
        strides=tuple(strides),
        dilations=tuple(dilations),
        pads=pads,
        signed_input=not never_negative(node.inputs[0]),
    )
    bias = constant_of(input_of(node, 2))
    if input_of(node, 2) is not None and bias is None:
        return "its bias depends on the data"
    shaped = None if bias is None else bias.reshape(-1, *[1] * dims)
    return Lowered(layer, kernels, shaped, _name(node.inputs[0]), _name(node.outputs[0]))


def _lower_matmul(node: ir.Node, name: str) -> Lowered | str:
    left, right = constant_of(node.inputs[0]), constant_of(node.inputs[1])
    if left is None and right is None:
        return TWO_TENSORS
    if right is None:
        return "its constant stands on the left: the columns that it mixes are no tokens"
    if why := _why_no_linear(right):
        return why
    layer, kernels = lower_linear(name, right, signed_input=not never_negative(node.inputs[0]))
    return Lowered(layer, kernels, None, _name(node.inputs[0]), _name(node.outputs[0]))


def _lower_gemm(node: ir.Node, name: str) -> Lowered | str:
    weights, bias = constant_of(node.inputs[1]), constant_of(input_of(node, 2))
    if weights is None:
        return TWO_TENSORS
    if integer(node, "transA", 0):
        return "it mixes samples: its input is transposed"
    if input_of(node, 2) is not None and bias is None:
        return "its bias depends on the data"
    if integer(node, "transB", 0):
        weights = weights.T
    if why := _why_no_linear(weights):
        return why
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    scaled = (np.float64(alpha) * weights).astype(weights.dtype)
    layer, kernels = lower_linear(name, scaled, signed_input=not never_negative(node.inputs[0]))
    shaped = None if bias is None else (np.float64(beta) * bias).astype(bias.dtype)
    return Lowered(layer, kernels, shaped, _name(node.inputs[0]), _name(node.outputs[0]))


def _why_no_linear(weights: Array) -> str:
    if weights.dtype not in _NUMBERS:
        return f"its weights are {weights.dtype}: kernels are float32 or float64"
    if weights.ndim != 2:
        return f"its weights have {weights.ndim} dimensions: no one matrix for every token"
    if weights.shape[0] == 1:
        return "a token of one number needs no lens"
    if _averages(weights):
        return f"means of its inputs, a pooling written as a product: {SUMS}"
    return ""


def _averages(weights: Array) -> bool:
    """Say whether every answer is a mean of some inputs, as adaptive poolings are exported."""
    some = weights != 0
    means = some / np.maximum(some.sum(0), 1)
    return bool(some.any(0).all()) and bool(np.allclose(weights, means, rtol=1e-6, atol=0))


def _pads(
    node: ir.Node, kernel: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[int, ...] | None:
    """Give the padding, which older graphs leave to the size of the input; None when that is free."""
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return tuple(integers(node, "pads", [0] * (2 * len(kernel))))
    if auto == "VALID":
        return (0,) * (2 * len(kernel))
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    sizes = list(shape)[2:] if shape is not None else []
    begins: list[int] = []
    ends: list[int] = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=False):
        if not isinstance(size, int):
            return None
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small = total // 2
        begins.append(total - small if auto == "SAME_LOWER" else small)
        ends.append(small if auto == "SAME_LOWER" else total - small)
    return (*begins, *ends) if len(begins) == len(kernel) else None


def _why_optical(layer: Layer) -> str:
    rows, columns = layer.kernel
    if layer.kind == "linear":
        count = f"{layer.kernels} valid kernels of {rows}x{columns}"
        return f"linear layer over tokens: {count}, shared by all tokens"
    sharing = f", one set shared by {layer.shared} groups" if layer.shared > 1 else ""
    count = layer.groups * layer.kernels * layer.channels
    return f"convolution with fixed kernels of {rows}x{columns}: {count} of them{sharing}"


def _name(value: ir.Value | None) -> str:
    assert value is not None
    assert value.name is not None
    return value.name
