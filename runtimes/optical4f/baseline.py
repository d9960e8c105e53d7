"""What a digital computer needs for the same layers: counted, and measured on this machine.

An FFT convolution costs the same for every kernel: with S pixels of the padded picture ::

    flops = (P C + P M) 2.5 S log2 S + P C M 4 S        transforms of pictures and answers, then products

the transforms of kernels once and for all. A claim has to beat the better of direct and FFT.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from .lower import Layer


@dataclass(frozen=True)
class Digital:
    """Work of one layer in arithmetic operations."""

    direct_macs: float
    fft_flops: float


def count(layer: Layer, pictures: int, height: int, width: int) -> Digital:
    """Count one layer for pictures of one size."""
    rows, columns = layer.axes(height, width)
    size = _padded(rows.n + rows.before + rows.after) * _padded(columns.n + columns.before + columns.after)
    transforms = pictures * (layer.channels + layer.kernels) * 2.5 * size * math.log2(max(size, 2))
    products = pictures * layer.channels * layer.kernels * 4 * size
    return Digital(layer.macs(pictures, height, width), layer.groups * (transforms + products))


def fastest_ms(call: Callable[[], object], *, seconds: float = 0.3, least: int = 3) -> float:
    """Measure a call on this machine: the fastest of several, after one that does not count."""
    call()
    best, spent, runs = math.inf, 0.0, 0
    while spent < seconds or runs < least:
        start = time.perf_counter_ns()
        call()
        taken = (time.perf_counter_ns() - start) / 1e9
        best, spent, runs = min(best, taken), spent + taken, runs + 1
    return best * 1e3


def host_name() -> str:
    """Name this machine's processor."""
    return platform.processor() or platform.machine()


def _padded(size: int) -> int:
    return 1 << (size - 1).bit_length()
