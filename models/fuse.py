"""The algebra that folds linear steps into each other, as pure functions.

Everything is computed in float64 and rounded once to the dtype that came in. With u the unit roundoff of that
dtype (2^-24 for float32, 2^-53 for float64) and e = 2^-53, an entry w of a folded tensor that is a sum of n
products differs from the exact one by at most ``u |w| + 2 (n + 1) e S``, where S is the sum of the products'
magnitudes. "Exact" means that only zeros and copies are involved. Each function states its n.

Axis letters: O output channels, I input channels, G groups, Kh and Kw kernel height and width.
A weight is (O, I) for a linear layer and (O, I/G, Kh, Kw) for a convolution; a bias is (O,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BuildError

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


class Affine(NamedTuple):
    """y = scale x + shift per channel, both (C,) in float64."""

    scale: Tensor
    shift: Tensor


class Kernel(NamedTuple):
    """A convolution as values: weight (O, I/G, Kh, Kw), bias (O,), number of groups G."""

    weight: Tensor
    bias: Tensor
    groups: int = 1


def affine_of(norm: BatchNorm) -> Affine:
    """Give the map that a batch norm applies in evaluation: s = g / sqrt(var + eps), t = b - mean s.

    Raises:
        BuildError: If the layer keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        message = "expected a batch norm with running statistics, got one without; train it with them"
        raise BuildError(message)
    mean, variance = norm.running_mean.detach().double(), norm.running_var.detach().double()
    scale = (variance + norm.eps).rsqrt()
    if not norm.affine:
        return Affine(scale, -mean * scale)
    scale = norm.weight.detach().double() * scale
    return Affine(scale, norm.bias.detach().double() - mean * scale)


def scale_outputs(
    weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fold what follows a layer: s (W x + b) + t = (s W) x + (s b + t).

    Holds for linear layers and for convolutions of any group count, stride and padding.
    Error: n = 1 in W, 2 in b.

    Args:
        weight: (O, ...).
        bias: (O,), or None for zeros.
        scale: (O,).
        shift: (O,), or None for zeros.

    Returns:
        Weight and bias in the dtype of ``weight``.
    """
    w, s = weight.detach().double(), scale.detach().double()
    b = s * _double(bias, w) + _double(shift, w)
    return _rounded(w * _column(s, w.ndim), weight), _rounded(b, weight)


def scale_inputs(
    weight: Tensor, bias: Tensor | None, affine: Affine, *, groups: int = 1, padding: int = 0
) -> tuple[Tensor, Tensor]:
    """Fold what precedes a layer: W (s x + t) + b = (W s) x + (W t + b).

    Error: n = 1 in W, I/G Kh Kw + 1 in b.

    Args:
        weight: (O, I) or (O, I/G, Kh, Kw).
        bias: (O,), or None for zeros.
        affine: Scale and shift (I,).
        groups: G.
        padding: Largest zero padding of the layer.

    Raises:
        BuildError: If there is a shift and padding: padded zeros are not shifted, the folded bias assumes it.
    """
    if padding and bool(affine.shift.count_nonzero()):
        message = f"expected no padding behind a shift, got padding {padding}; leave the two layers apart"
        raise BuildError(message)
    w = weight.detach().double()
    per_output = w.shape[0] // groups
    s, t = (v.double().view(groups, 1, -1).expand(-1, per_output, -1).reshape(w.shape[:2]) for v in affine)
    spread = (..., *(None,) * (w.ndim - 2))
    b = _double(bias, w) + (w * t[spread]).flatten(1).sum(1)
    return _rounded(w * s[spread], weight), _rounded(b, weight)


def identity_kernel(channels: int, size: tuple[int, int], *, groups: int = 1, like: Tensor) -> Kernel:
    """Write y = x as a convolution: W[o, o mod C/G, centre] = 1, else 0, and b = 0. Exact.

    Args:
        channels: C = O = I.
        size: Kh, Kw, both odd.
        groups: G.
        like: Gives dtype and device.

    Raises:
        BuildError: If a size is even (there is no centre) or the groups do not divide the channels.
    """
    if not (size[0] % 2 and size[1] % 2) or channels % groups:
        message = (
            f"expected odd kernel sizes and groups that divide the channels, got {size} and {groups} groups "
            f"for {channels} channels; an identity has no such kernel"
        )
        raise BuildError(message)
    per_group = channels // groups
    weight = torch.zeros(channels, per_group, *size, dtype=like.dtype, device=like.device)
    outputs = torch.arange(channels)
    weight[outputs, outputs % per_group, size[0] // 2, size[1] // 2] = 1
    return Kernel(weight, torch.zeros(channels, dtype=like.dtype, device=like.device), groups)


def pad_kernel(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Surround a kernel by zeros, centred: the same convolution if the padding grows by half as much. Exact.

    Args:
        weight: (O, I/G, Kh, Kw).
        size: New Kh, Kw.

    Raises:
        BuildError: If a size shrinks, or grows by an odd number (the centre would move by half a pixel).
    """
    grow = [new - old for new, old in zip(size, weight.shape[2:], strict=True)]
    if any(g < 0 or g % 2 for g in grow):
        message = (
            f"expected a size above {tuple(weight.shape[2:])} by an even number, got {size}; keep it apart"
        )
        raise BuildError(message)
    return F.pad(weight, (grow[1] // 2,) * 2 + (grow[0] // 2,) * 2)


def regroup(kernel: Kernel, groups: int) -> Kernel:
    """Write a grouped convolution with fewer groups (1: dense). Exact.

    W'[o, i] = W[o, i] where o and i are of the same old group, else 0.

    Args:
        kernel: With G groups.
        groups: The new number of groups, a divisor of G.

    Raises:
        BuildError: If it is not a divisor.
    """
    if kernel.groups % groups:
        message = (
            f"expected a divisor of {kernel.groups} groups, got {groups}; regrouping can only join groups"
        )
        raise BuildError(message)
    outputs, per_group, *size = kernel.weight.shape
    joined = kernel.groups // groups
    blocks = kernel.weight.new_zeros(groups, joined, outputs // kernel.groups, joined, per_group, *size)
    own = kernel.weight.view(groups, joined, outputs // kernel.groups, per_group, *size)
    for j in range(joined):
        blocks[:, j, :, j] = own[:, j]
    return Kernel(blocks.reshape(outputs, joined * per_group, *size), kernel.bias, groups)


def add_kernels(kernels: Sequence[Kernel]) -> Kernel:
    """Sum parallel convolutions: W = sum of W_i, b = sum of b_i.

    All get the largest size and the greatest common divisor of the group counts first. Error: n = how many.

    Raises:
        BuildError: If shapes do not fit each other.
    """
    size = _largest(kernels)
    groups = math.gcd(*(k.groups for k in kernels))
    parts = [regroup(Kernel(pad_kernel(k.weight, size), k.bias, k.groups), groups) for k in kernels]
    shapes = sorted({tuple(p.weight.shape) for p in parts})
    if len(shapes) > 1:
        message = f"expected kernels between the same channels, got {shapes}; only these can be added"
        raise BuildError(message)
    weight = torch.stack([p.weight.detach().double() for p in parts]).sum(0)
    bias = torch.stack([p.bias.detach().double() for p in parts]).sum(0)
    like = kernels[0].weight
    return Kernel(_rounded(weight, like), _rounded(bias, like), groups)


def chain(first: Kernel, second: Kernel, *, padding: int = 0) -> Kernel:
    """Join two convolutions with nothing between, one of them 1x1 (unpadded, stride 1).

    W = W2 W1, a matrix product over the channels between, tap by tap; b = b2 + the sum of W2 b1 over channels
    and taps. Groups become gcd(G1, G2). Error: n = channels between per group; for b, times Kh Kw, + 1.

    Args:
        first: Runs first.
        second: Runs second; its stride is the stride of the result.
        padding: Largest zero padding of ``second``.

    Raises:
        BuildError: If neither is 1x1, the channels do not fit, or ``first`` has a bias and ``second`` padding
            (the border of the second would see 0 instead of b1).
    """
    _check_chain(first, second, padding)
    groups = math.gcd(first.groups, second.groups)
    one, two = regroup(first, groups), regroup(second, groups)
    w1, b1 = _grouped(one.weight, groups), _grouped(one.bias, groups)  # (G, M/G, I/G, Kh, Kw), (G, M/G)
    w2 = _grouped(two.weight, groups)  # (G, O/G, M/G, Kh, Kw)
    # One of the two has a single tap, so the product of the taps is a broadcast.
    weight = torch.einsum("gomhw,gmihw->goihw", *_same_taps(w2, w1))
    bias = two.bias.detach().double() + torch.einsum("gomhw,gm->go", w2, b1).flatten()
    return Kernel(_rounded(weight.flatten(0, 1), first.weight), _rounded(bias, first.weight), groups)


def _check_chain(first: Kernel, second: Kernel, padding: int) -> None:
    if second.weight.shape[1] * second.groups != first.weight.shape[0]:
        got = f"{first.weight.shape[0]} into {second.weight.shape[1] * second.groups}"
        message = (
            f"expected the channels between two layers to agree, got {got}; these do not follow each other"
        )
        raise BuildError(message)
    sizes = [tuple(k.weight.shape[2:]) for k in (first, second)]
    if (1, 1) not in sizes:
        message = (
            f"expected a 1x1 among the two kernels, got {sizes}; joining them would cost more than it saves"
        )
        raise BuildError(message)
    if padding and bool(first.bias.count_nonzero()):
        message = f"expected no bias before a padding, got padding {padding}; the border would change"
        raise BuildError(message)


def _same_taps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size = [max(m, n) for m, n in zip(a.shape[3:], b.shape[3:], strict=True)]
    return a.expand(*a.shape[:3], *size), b.expand(*b.shape[:3], *size)


def _largest(kernels: Sequence[Kernel]) -> tuple[int, int]:
    return max(k.weight.shape[2] for k in kernels), max(k.weight.shape[3] for k in kernels)


def _double(bias: Tensor | None, weight: Tensor) -> Tensor:
    return weight.new_zeros(weight.shape[0]) if bias is None else bias.detach().double()


def _grouped(values: Tensor, groups: int) -> Tensor:
    return values.detach().double().reshape(groups, -1, *values.shape[1:])


def _column(vector: Tensor, ndim: int) -> Tensor:
    return vector.view(-1, *(1,) * (ndim - 1))


def _rounded(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype)
