"""The algebra of ``fuse`` on layers: each function takes layers and returns a new one, in evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import BuildError
from .fuse import (
    BatchNorm,
    Kernel,
    add_kernels,
    affine_of,
    identity_kernel,
    scale_inputs,
    scale_outputs,
)


def conv_like(conv: nn.Conv2d, kernel: Kernel, *, padding: tuple[int, int] | None = None) -> nn.Conv2d:
    """Make a convolution with the geometry of ``conv`` and the values of ``kernel``."""
    outputs, per_group = kernel.weight.shape[:2]
    own_padding = conv.padding if isinstance(conv.padding, str) else _pair(conv.padding)
    made = nn.Conv2d(
        per_group * kernel.groups,
        outputs,
        _pair(kernel.weight.shape[2:]),
        stride=_pair(conv.stride),
        padding=own_padding if padding is None else padding,
        dilation=_pair(conv.dilation),
        groups=kernel.groups,
        padding_mode=conv.padding_mode,
        device="meta",
    )
    made.weight, made.bias = nn.Parameter(kernel.weight), nn.Parameter(kernel.bias)
    return made.eval()


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Make a linear layer of (O, I) and (O,)."""
    outputs, inputs = weight.shape
    made = nn.Linear(inputs, outputs, device="meta")
    made.weight, made.bias = nn.Parameter(weight), nn.Parameter(bias)
    return made.eval()


def pointwise(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Write the linear layer (O, I), (O,) over the channels of a map as a 1x1 convolution. Exact."""
    outputs, inputs = weight.shape
    made = nn.Conv2d(inputs, outputs, 1, device="meta")
    made.weight = nn.Parameter(weight.detach()[:, :, None, None].clone())
    made.bias = nn.Parameter(bias.detach().clone())
    return made.eval()


def kernel_of(conv: nn.Conv2d) -> Kernel:
    """Take the values of a convolution; a missing bias is zeros."""
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    return Kernel(conv.weight.detach(), bias.detach(), conv.groups)


def fold_conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Fold a batch norm into the convolution before it (``fuse.scale_outputs``)."""
    weight, bias = scale_outputs(conv.weight, conv.bias, *affine_of(norm))
    return conv_like(conv, Kernel(weight, bias, conv.groups))


def fold_norm_conv(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Fold a batch norm into the convolution after it (``fuse.scale_inputs``).

    Raises:
        BuildError: If the convolution pads and the norm shifts.
    """
    weight, bias = scale_inputs(
        conv.weight, conv.bias, affine_of(norm), groups=conv.groups, padding=max(_padding(conv))
    )
    return conv_like(conv, Kernel(weight, bias, conv.groups))


def fold_linear_norm(linear: nn.Linear, norm: BatchNorm) -> nn.Linear:
    """Fold a batch norm into the linear layer before it (``fuse.scale_outputs``)."""
    return linear_of(*scale_outputs(linear.weight, linear.bias, *affine_of(norm)))


def fold_norm_linear(norm: BatchNorm, linear: nn.Linear) -> nn.Linear:
    """Fold a batch norm into the linear layer after it (``fuse.scale_inputs``)."""
    return linear_of(*scale_inputs(linear.weight, linear.bias, affine_of(norm)))


def scale_linear(linear: nn.Linear, scale: Tensor) -> nn.Linear:
    """Fold a factor (O,) behind a linear layer into it (``fuse.scale_outputs``)."""
    return linear_of(*scale_outputs(linear.weight, linear.bias, scale))


def scale_conv(conv: nn.Conv2d, scale: Tensor) -> nn.Conv2d:
    """Fold a factor (O,) behind a convolution into it (``fuse.scale_outputs``)."""
    return conv_like(conv, Kernel(*scale_outputs(conv.weight, conv.bias, scale), conv.groups))


def add_identity(conv: nn.Conv2d) -> nn.Conv2d:
    """Fold ``x + conv(x)`` into one convolution.

    Raises:
        BuildError: If the output is not aligned with the input: stride, channels or padding differ.
    """
    aligned = conv.stride == (1, 1) and conv.in_channels == conv.out_channels
    if not aligned or _offset2(conv) != (0, 0):
        message = (
            f"expected a convolution that keeps its input's shape, got {conv}; nothing can be added to it"
        )
        raise BuildError(message)
    one = identity_kernel(conv.in_channels, _pair(conv.kernel_size), groups=conv.groups, like=conv.weight)
    return conv_like(conv, add_kernels([kernel_of(conv), one]))


def merge_parallel(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Fold ``sum of conv_i(x)`` into one convolution (``fuse.add_kernels``).

    Kernel sizes, group counts and biases may differ. The result has the largest kernel and the greatest
    common divisor of the group counts.

    Raises:
        BuildError: If strides, dilations, centres or channels differ, or padding is not by zeros.
    """
    if not convs:
        message = "expected at least one convolution to merge, got none; drop the branch instead"
        raise BuildError(message)
    for what, values in (
        ("stride", {c.stride for c in convs}),
        ("dilation", {c.dilation for c in convs}),
        ("centre (padding minus half the kernel's reach)", {_offset2(c) for c in convs}),
    ):
        if len(values) > 1:
            message = f"expected convolutions of one {what}, got {sorted(values)}; they cannot be merged"
            raise BuildError(message)
    merged = add_kernels([kernel_of(c) for c in convs])
    return conv_like(convs[0], merged, padding=_largest_padding(convs))


def _largest_padding(convs: Sequence[nn.Conv2d]) -> tuple[int, int]:
    pads = [_padding(c) for c in convs]
    return max(p[0] for p in pads), max(p[1] for p in pads)


def _offset2(conv: nn.Conv2d) -> tuple[int, int]:
    """Twice the distance from the middle of the kernel to the first pixel, per axis: equal means aligned."""
    reach = (d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    height, width = (2 * p - r for p, r in zip(_padding(conv), reach, strict=True))
    return height, width


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    if conv.padding_mode != "zeros":
        message = f"expected padding by zeros, got {conv.padding_mode!r}; such a convolution stays as it is"
        raise BuildError(message)
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        return _same_padding(conv)
    assert not isinstance(conv.padding, str)
    return _pair(conv.padding)


def _same_padding(conv: nn.Conv2d) -> tuple[int, int]:
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(r % 2 for r in reach):
        message = (
            f"expected padding equal on both sides, got 'same' with kernel {conv.kernel_size}; keep it apart"
        )
        raise BuildError(message)
    return reach[0] // 2, reach[1] // 2


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    height, width = sizes
    return height, width
