"""How a window walks over a picture: strides, dilations and paddings in the order that MIL wants them.

ONNX lists all paddings at the beginning before all those at the end; MIL lists beginning and end of each axis
in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .call import Call, Held, Unsupported, fixed, shape_of


@dataclass(frozen=True)
class Window:
    """A window of ``kernel`` elements, with one entry per spatial axis in every field."""

    sizes: tuple[Any, ...]
    """Of the input; symbols where they are free."""
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def pad(self) -> list[int]:
        """Paddings as MIL orders them."""
        return [p for both in zip(self.begin, self.end, strict=True) for p in both]

    def extra(self) -> tuple[int, ...]:
        """Give how many elements more are needed at each end so that a last, partial window counts.

        Raises:
            Unsupported: If a size is free.
        """
        if not all(fixed(size) for size in self.sizes):
            message = "ceil_mode needs fixed sizes"
            raise Unsupported(message)
        return tuple(self._extra(axis) for axis in range(len(self.sizes)))

    def _extra(self, axis: int) -> int:
        size, begin, end = int(self.sizes[axis]), self.begin[axis], self.end[axis]
        stride, reach = self.strides[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        count = -(-(size + begin + end - reach) // stride) + 1
        if (count - 1) * stride >= size + begin:
            count -= 1  # a window must begin inside the picture or the padding before it
        return max(0, (count - 1) * stride + reach - size - begin - end)

    def longer(self, extra: tuple[int, ...]) -> Window:
        """Give the window with more padding at the end."""
        return replace(self, end=tuple(e + x for e, x in zip(self.end, extra, strict=True)))


def window_of(c: Call, x: Held, kernel: tuple[int, ...]) -> Window:
    """Read the attributes of a convolution or pool.

    Args:
        c: The node.
        x: Its input, of shape (B, C, sizes).
        kernel: Size of the window.

    Raises:
        Unsupported: If a padding is left to be worked out for a free size.
    """
    ones = (1,) * len(kernel)
    pads = tuple(c.ints("pads") or (0,) * (2 * len(kernel)))
    window = Window(
        shape_of(x)[2:],
        kernel,
        tuple(c.ints("strides") or ones),
        tuple(c.ints("dilations") or ones),
        pads[: len(kernel)],
        pads[len(kernel) :],
    )
    mode = c.text("auto_pad", "NOTSET")
    if mode == "VALID":
        return replace(window, begin=(0,) * len(kernel), end=(0,) * len(kernel))
    return window if mode == "NOTSET" else _same(window, upper=mode == "SAME_UPPER")


def _same(window: Window, *, upper: bool) -> Window:
    """Pad so that the answer has ``ceil(size / stride)`` elements; ``upper`` puts the odd one at the end."""
    if not all(fixed(size) for size in window.sizes):
        message = "auto_pad needs fixed sizes"
        raise Unsupported(message)
    totals: list[int] = []
    for size, kernel, stride, dilation in zip(
        window.sizes, window.kernel, window.strides, window.dilations, strict=True
    ):
        count, reach = -(-int(size) // stride), (kernel - 1) * dilation + 1
        totals.append(max(0, (count - 1) * stride + reach - int(size)))
    less = tuple(total // 2 for total in totals)
    more = tuple(total - half for total, half in zip(totals, less, strict=True))
    return replace(window, begin=less if upper else more, end=more if upper else less)
