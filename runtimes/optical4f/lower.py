"""From a convolution or a linear layer of the graph to passes of one shape.

Every layer that light can compute becomes correlations of padded pictures with fixed kernels::

    y[p, g, m] = sum_c  x[p, g, c] * k[g, m, c]        p pictures, g groups, c channels, m kernels

* A padding is dark pixels around a picture, a dilation zeros inside a kernel (extent d (k - 1) + 1), and a
  stride reads some of the answers.
* 1d signals are pictures of one row.
* Grouped weights whose groups are all equal are one kernel that all groups share: (B, G C, H, W) is looked at
  as (B G, C, H, W) with one group (ConvShareViT: tokens are the groups), so that one mask serves them all.
* A linear layer over tokens, y = x W with W (d, m), is m kernels as large as the token, each giving one
  number: a token of d numbers lies as r x c pixels, r c >= d, and W[:, j] as the j-th kernel, valid.

Axis letters: B batch, G groups, P pictures, C channels and M kernels of a group, H W picture, k l kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...export.artifact import Array
from .tiling import Axis

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """One node as passes: everything but its kernels and the sizes of its pictures."""

    name: str
    """Of the node."""
    kind: Literal["conv1d", "conv2d", "linear"]
    groups: int
    """That have kernels of their own."""
    channels: int
    """Whose products add, per group."""
    kernels: int
    """Per group."""
    kernel: tuple[int, int]
    """As it lies on the plane, dilation included."""
    taps: int
    """Numbers in a kernel that are not zeros of a dilation or of a rounded-up token."""
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""
    strides: tuple[int, int] = (1, 1)
    shared: int = 1
    """Groups of the node that share one set of kernels; they became pictures."""
    features: int = 0
    """Numbers of a token of a linear layer."""
    signed_kernel: bool = True
    signed_input: bool = True

    def pictures(self, batch: int) -> int:
        """Give the pictures of an input whose first dimensions multiply to ``batch``."""
        return batch * self.shared

    def axes(self, height: int, width: int, guard: int = 0) -> tuple[Axis, Axis]:
        """Give the axes of a tile for pictures of this size."""
        top, left, bottom, right = self.pads
        return (
            Axis(height, self.kernel[0], top, bottom, guard),
            Axis(width, self.kernel[1], left, right, guard),
        )

    def outputs(self, height: int, width: int) -> tuple[int, int]:
        """Give the answers that are read of a picture, along both axes."""
        rows, columns = self.axes(height, width)
        return -(-rows.out // self.strides[0]), -(-columns.out // self.strides[1])

    def macs(self, pictures: int, height: int, width: int) -> int:
        """Count the multiply-adds that a direct digital convolution needs."""
        rows, columns = self.outputs(height, width)
        return self.groups * pictures * self.channels * self.kernels * rows * columns * self.taps


def picture_size(layer: Layer, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Give batch, height and width of the pictures in an input of this shape."""
    if layer.kind == "linear":
        return math.prod(shape[:-1]), *layer.kernel
    height, width = (1, shape[2]) if layer.kind == "conv1d" else (shape[2], shape[3])
    return shape[0], height, width


def to_pictures(layer: Layer, x: Tensor) -> Tensor:
    """Cut an input of the node into pictures, without their padding.

    Args:
        layer: The node.
        x: (B, G C, H, W), (B, G C, L), or (..., d).

    Returns:
        (P, G C, H, W).
    """
    from torch.nn.functional import pad

    if layer.kind == "linear":
        rows, columns = layer.kernel
        flat = pad(x.reshape(-1, layer.features), (0, rows * columns - layer.features))
        return flat.reshape(-1, 1, rows, columns)
    if layer.kind == "conv1d":
        x = x.unsqueeze(-2)
    return x.reshape(-1, layer.groups * layer.channels, *x.shape[-2:])


def from_answers(layer: Layer, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Put the answers of all passes into the output of the node.

    Args:
        layer: The node.
        y: (P, G M, H', W').
        shape: Of the node's input.

    Returns:
        (B, G M, H', W'), (B, G M, L') or (..., m).
    """
    if layer.kind == "linear":
        return y.reshape(*shape[:-1], layer.kernels)
    joined = y.reshape(shape[0], -1, *y.shape[-2:])
    return joined.squeeze(-2) if layer.kind == "conv1d" else joined


def lower_conv(
    name: str,
    weights: Array,
    *,
    groups: int,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    signed_input: bool = True,
) -> tuple[Layer, Array]:
    """Lower a convolution of one or two dimensions.

    Args:
        name: Of the node.
        weights: (G M, C, k) or (G M, C, k, l).
        groups: G.
        strides: One per dimension.
        dilations: One per dimension.
        pads: As ONNX has them: the beginnings of all dimensions, then the ends.
        signed_input: Whether the input may be negative.

    Returns:
        The layer and its kernels, (G, M, C, k, l), dilation included.
    """
    flat = weights.ndim == 3
    if flat:
        weights, strides, dilations = weights[:, :, None], (1, *strides), (1, *dilations)
        pads = (0, pads[0], 0, pads[1])
    taps = math.prod(weights.shape[2:])
    kernels = _dilated(weights, (dilations[0], dilations[1]))
    kernels = kernels.reshape(groups, -1, *kernels.shape[1:])
    shared = groups > 1 and bool((kernels == kernels[:1]).all())
    if shared:
        kernels = kernels[:1]
    layer = Layer(
        name,
        "conv1d" if flat else "conv2d",
        groups=len(kernels),
        channels=kernels.shape[2],
        kernels=kernels.shape[1],
        kernel=(kernels.shape[3], kernels.shape[4]),
        taps=taps,
        pads=(pads[0], pads[1], pads[2], pads[3]),
        strides=(strides[0], strides[1]),
        shared=groups if shared else 1,
        signed_kernel=bool((kernels < 0).any()),
        signed_input=signed_input,
    )
    return layer, np.ascontiguousarray(kernels)


def lower_linear(name: str, weights: Array, *, signed_input: bool = True) -> tuple[Layer, Array]:
    """Lower a linear layer over the last dimension.

    Args:
        name: Of the node.
        weights: (d, m).
        signed_input: Whether the input may be negative.

    Returns:
        The layer and its kernels, (1, m, 1, r, c).
    """
    features, outputs = weights.shape
    rows, columns = token_size(features)
    kernels = np.zeros((outputs, rows * columns), weights.dtype)
    kernels[:, :features] = weights.T
    layer = Layer(
        name,
        "linear",
        groups=1,
        channels=1,
        kernels=outputs,
        kernel=(rows, columns),
        taps=features,
        features=features,
        signed_kernel=bool((weights < 0).any()),
        signed_input=signed_input,
    )
    return layer, kernels.reshape(1, outputs, 1, rows, columns)


def token_size(features: int) -> tuple[int, int]:
    """Give rows and columns of a token: a divisor near the root, or the next rectangle when there is none."""
    root = math.isqrt(features)
    for rows in range(root, root // 2, -1):
        if features % rows == 0:
            return rows, features // rows
    rows = max(root, 1)
    return rows, -(-features // rows)


def _dilated(weights: Array, dilations: tuple[int, int]) -> Array:
    """Put zeros between the taps: (O, C, k, l) to (O, C, d (k - 1) + 1, e (l - 1) + 1)."""
    down, across = dilations
    height, width = ((size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True))
    spread = np.zeros((*weights.shape[:2], height, width), weights.dtype)
    spread[:, :, ::down, ::across] = weights
    return spread
