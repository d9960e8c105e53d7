"""Setting layers up on samples: the range of the modulator, and the range of the camera.

The modulator is set to the largest input that samples showed, with room to spare. The camera could be set
to the largest answer, as far beyond the samples as chance goes (``spread``). But few answers are that large,
and the more of its range a converter of few bits keeps for them, the coarser it reads all others. So a layer
is exposed e times as long as that, where largest answers saturate, with the least error over samples::

    e = argmin_e  sum (y_e - y)^2          y_e read by the camera as it is, y exact

as ranges of integer networks are chosen (Banner et al., 1810.05723) [K]; of exposures that are as good the
shortest. A laser that is too weak for it leaves fewer electrons at full scale.

Axis letters as in ``lower``; F masks of one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .passes import Optics, Setting

HEADROOM = 1.25
"""How much larger than on the samples an input may be before the modulator saturates."""

EXPECTED = 1e5
"""Answers of which about one is larger than ``spread`` allows for, if they are normal numbers."""

SHARES = tuple(2 ** (-step / 4) for step in range(9))
"""Largest fields (incoherent: intensities) that the camera is set to, as shares of the largest expected."""

AS_GOOD = 1.02
"""Ratio of errors that is no difference."""

BATCH = 8
"""Samples whose values at all layers are in memory at a time; exposures are tried on the first ones."""

Seen = Callable[[], Iterable[Sequence[Tensor]]]
"""Begins anew at the first batch of samples; each gives the inputs of all layers."""


@dataclass(frozen=True)
class Ready:
    """A layer that is set up."""

    setting: Setting
    levels: Tensor
    """Largest answer of each mask within the camera's range, to an input of 1, (chunks, G, M, F)."""
    exposure: float
    """How often the largest expected answer would fill the camera."""


@torch.no_grad()
def set_up(layers: Sequence[Optics], seen: Seen) -> list[Ready]:
    """Set layers up, each on what it would see if all before it were exact.

    Args:
        layers: Scheduled.
        seen: Their inputs; one batch of them is in memory at a time. The exposure is chosen on the first.
    """
    peaks = [0.0] * len(layers)
    for inputs in seen():
        peaks = [max(peak, float(x.abs().max())) for peak, x in zip(peaks, inputs, strict=True)]
    ranged = [
        layer.having(replace(layer.setting, peak=HEADROOM * peak))
        for layer, peak in zip(layers, peaks, strict=True)
    ]
    levels = _expected(ranged, seen)
    first = next(iter(seen()))
    return [_exposed(*each) for each in zip(ranged, levels, first, strict=True)]


def _expected(layers: Sequence[Optics], seen: Seen) -> list[Tensor]:
    """Give the largest answers of each layer that are to be expected."""
    found: list[Tensor] = []
    counts = [0] * len(layers)
    for inputs in seen():
        batch = [layer.largest(x) for layer, x in zip(layers, inputs, strict=True)]
        largest = [level for level, _ in batch]
        found = [torch.maximum(*pair) for pair in zip(found, largest, strict=True)] if found else largest
        counts = [count + more for count, (_, more) in zip(counts, batch, strict=True)]
    return [spread(level, count).contiguous() for level, count in zip(found, counts, strict=True)]


def _exposed(layer: Optics, levels: Tensor, x: Tensor) -> Ready:
    """Choose the exposure of a layer."""
    if layer.full_well is None:
        return Ready(layer.setting, levels, 1.0)
    exact = layer.having(layer.setting, ideal=True).run(x, None, None)
    ready = [_at(layer, levels, share) for share in SHARES]
    errors = [_error(layer.having(one.setting), one.levels, x, exact) for one in ready]
    least = min(errors) * AS_GOOD
    good = (one for one, error in zip(ready, errors, strict=True) if error <= least)
    return next(good, ready[0])  # no error is the least where answers are no numbers


def _at(layer: Optics, levels: Tensor, share: float) -> Ready:
    """Set the camera to a share of the largest expected answers."""
    setting, well = layer.setting, layer.full_well
    assert well is not None
    exposure = share ** (-2 if layer.coherent else -1)
    electrons = min(setting.available / exposure, well)
    return Ready(replace(setting, electrons=electrons), levels * share, exposure)


def _error(layer: Optics, levels: Tensor, x: Tensor, exact: Tensor) -> float:
    """Give the squared error of a layer's answers under the same noise for every exposure."""
    answer = layer.run(x, levels, torch.Generator().manual_seed(0))
    return float((answer - exact).double().square().sum())


def spread(largest: Tensor, answers: int) -> Tensor:
    """Leave room for answers beyond the largest that were seen.

    The largest of n normal numbers grows as sqrt(2 ln n) (Cramer, 1946) [K], so what n answers showed times
    sqrt(ln N / ln n) is about the largest of N. All kernels together showed more than each alone: none gets
    more room than that.

    Args:
        largest: Of each mask, (chunks, G, M, F).
        answers: How many of each kernel were seen.

    Returns:
        Of the same shape.
    """
    own, all_of_them = (largest * _room(n) for n in (answers, answers * largest[0, ..., 0].numel()))
    return torch.minimum(own, all_of_them.amax().clamp(min=0))


def _room(answers: int) -> float:
    return max(1.0, math.sqrt(math.log(EXPECTED) / math.log(max(answers, 2))))
