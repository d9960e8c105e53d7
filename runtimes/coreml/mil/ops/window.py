"""Where windows lie: the padding that convolutions and pools share.

``same`` pads so that every axis of size d gets ceil(d / stride) windows, the odd one behind; ``same_lower``
puts the odd one in front.
"""

from __future__ import annotations

from collections.abc import Sequence

Pads = list[tuple[int, int]]
"""Before and after, for every spatial axis."""


def pads(
    pad_type: str,
    pad: Sequence[int],
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """Give the padding of every spatial axis.

    Args:
        pad_type: ``valid``, ``custom``, ``same`` or ``same_lower``.
        pad: Before and after of every axis in turn, for ``custom``.
        sizes: Of the spatial axes.
        kernel: Sizes of the window.
        strides: Steps of the window.
        dilations: Steps inside of the window.

    Raises:
        ValueError: If the type is not known or the numbers do not fit the axes.
    """
    kind = pad_type.lower()
    if kind == "custom":
        if len(pad) != 2 * len(sizes):
            message = f"expected {2 * len(sizes)} paddings, got {len(pad)}"
            raise ValueError(message)
        return [(pad[2 * i], pad[2 * i + 1]) for i in range(len(sizes))]
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind not in ("same", "same_lower"):
        message = f"expected padding valid, custom, same or same_lower, got {pad_type!r}"
        raise ValueError(message)
    totals = [
        max(0, stride * -(-size // stride) - size + (k - 1) * dilation + 1 - stride)
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    return [(t // 2, t - t // 2) if kind == "same" else (t - t // 2, t // 2) for t in totals]


def flat(padding: Pads) -> list[int]:
    """Give the padding as ``torch.nn.functional.pad`` takes it: last axis first."""
    return [side for pair in reversed(padding) for side in pair]
