"""Convolutions in one to three spatial dimensions.

Axis letters: B batch, C channels in, O channels out, G groups; ``...`` the spatial axes, K sizes of the
window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signature import Ints
from .window import flat, pads

_CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints = (),
    pad_type: str = "valid",
    pad: Ints = (),
    dilations: Ints = (),
    groups: int = 1,
) -> Tensor:
    """Convolve x of shape (B, C, ...) with weights of shape (O, C / G, K...)."""
    axes = x.ndim - 2
    strides, dilations = strides or (1,) * axes, dilations or (1,) * axes
    padding = pads(pad_type, pad or (0,) * 2 * axes, x.shape[2:], weight.shape[2:], strides, dilations)
    if all(before == after for before, after in padding):
        inside = tuple(before for before, _ in padding)
        return _CONV[x.ndim](x, weight, bias, strides, inside, dilations, groups)
    return _CONV[x.ndim](F.pad(x, flat(padding)), weight, bias, strides, 0, dilations, groups)


def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quantization_type: str,
    quant_scale: Tensor,
    quant_bias: Tensor,
    bias: Tensor | None = None,
    nbits: int = 8,
    strides: Ints = (),
    pad_type: str = "valid",
    pad: Ints = (),
    dilations: Ints = (),
    groups: int = 1,
) -> Tensor:
    """Convolve with weights ``w * scale + bias``, scale and bias one a channel out or one in all."""
    if quantization_type != "linear":
        message = f"expected conv_quantized of type linear, got {quantization_type!r} of {nbits} bits"
        raise ValueError(message)
    by_channel = (-1, *([1] * (weight.ndim - 1)))
    dense = weight.float() * quant_scale.reshape(by_channel) + quant_bias.reshape(by_channel)
    return conv(x, dense, None if bias is None else bias.float(), strides, pad_type, pad, dilations, groups)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints = (),
    output_shape: Ints = (),
    pad_type: str = "valid",
    strides: Ints = (),
    dilations: Ints = (),
    groups: int = 1,
) -> Tensor:
    """Convolve transposed: x of shape (B, C, ...), weights (C, O / G, K...).

    The full result is cut to the declared size: by the padding where it is given, else evenly for ``same``,
    the odd value behind.
    """
    axes = x.ndim - 2
    strides, dilations = strides or (1,) * axes, dilations or (1,) * axes
    full = _TRANSPOSED[x.ndim](x, weight, bias, strides, 0, 0, groups, dilations)
    for axis in range(axes):
        size = full.shape[axis + 2]
        before, after = (pad[2 * axis], pad[2 * axis + 1]) if pad_type == "custom" and pad else (0, 0)
        if pad_type in ("same", "same_lower"):
            total = size - x.shape[axis + 2] * strides[axis]
            before = total // 2 if pad_type == "same" else total - total // 2
            after = total - before
        if output_shape:
            after = size - before - output_shape[axis + 2]
        full = _cut(full, axis + 2, before, after)
    return full


def _cut(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Take off values at both ends of an axis; a negative number puts zeros there."""
    before, missing_before = max(before, 0), max(-before, 0)
    after, missing_after = max(after, 0), max(-after, 0)
    cut = x.narrow(axis, before, x.shape[axis] - before - after)
    if not missing_before and not missing_after:
        return cut
    sides = [0, 0] * x.ndim
    place = 2 * (x.ndim - 1 - axis)
    sides[place : place + 2] = [missing_before, missing_after]
    return torch.nn.functional.pad(cut, sides)
