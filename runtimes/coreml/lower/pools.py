"""Pools with a window."""

from __future__ import annotations

import numpy as np

from ....export.artifact import Array
from .call import Call, Held, Unsupported, Var, dtype_of
from .windows import Window, window_of


def max_pool(c: Call) -> Held:
    """Largest element of each window; paddings never win."""
    if c.asks(1):
        message = "places of the largest elements"
        raise Unsupported(message)
    x, window = _input(c)
    return c.mb.max_pool(x=x, **_options(window))


def average_pool(c: Call) -> Held:
    """Mean of each window, over declared paddings too where ``count_include_pad`` asks for it.

    MIL divides by the whole window or by what lies in the picture. A last window that reaches past the
    declared padding counts neither way, so its mean is put right by a constant factor.
    """
    x, window = _input(c)
    inside = not c.int("count_include_pad")
    answer = c.mb.avg_pool(x=x, exclude_padding_from_average=inside, **_options(window))
    factor = None if inside else _correction(c, x, window)
    return answer if factor is None else c.mb.mul(x=answer, y=factor)


def _input(c: Call) -> tuple[Var, Window]:
    x = c.var(0)
    window = window_of(c, x, tuple(c.ints("kernel_shape") or ()))
    if any(d != 1 for d in window.dilations):
        message = "a dilated pool"
        raise Unsupported(message)
    return x, window.longer(window.extra()) if c.int("ceil_mode") else window


def _options(window: Window) -> dict[str, object]:
    return {
        "kernel_sizes": list(window.kernel),
        "strides": list(window.strides),
        "pad_type": "custom",
        "pad": window.pad,
    }


def _correction(c: Call, x: Var, window: Window) -> Array | None:
    """Give elements of a window over elements counted, for every place of the answer."""
    if not c.int("ceil_mode"):
        return None
    declared = window_of(c, x, window.kernel)
    factor = np.ones((), np.float64)
    for axis, kernel in enumerate(window.kernel):
        reach = int(window.sizes[axis]) + declared.begin[axis] + declared.end[axis]
        total = int(window.sizes[axis]) + window.begin[axis] + window.end[axis]
        starts = np.arange(0, total - kernel + 1, window.strides[axis])
        counted = np.minimum(starts + kernel, reach) - starts
        factor = np.multiply.outer(factor, kernel / counted)
    return None if np.all(factor == 1) else factor.astype(dtype_of(x))
