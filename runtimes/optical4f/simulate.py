"""One pass through the processor: tiles in, the electronic-domain result of their convolution out.

    amplitude   a = Q(x / X), X the largest input that is expected
    field       E = F^-1{F{a} M}, M the mask (see ``masks``)
    camera      I = |E + r|^2 per reference r, read with noise and bits (see ``sensor``)
    result      y = X decode(I) / g, g the gain of the mask, + the parts' signs (see ``detection``)

A pass is simulated per tile on a plane just large enough that nothing wraps: on the device the tiles lie side
by side, their guard bands between them. Whatever spreads light over more than a guard band (masks that do not
show H itself, strong aberrations) reaches neighbours there; to see that, pass the whole plane as one tile.

Axes: T leading axes of tiles, K of kernels (they broadcast against each other; where K has size 1 the tiles
share a mask and its exposure), F masks per kernel, R references, P Q plane, h w tile, k l kernel, p q
pixels read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ...errors import UsageError, unknown_name
from . import direct
from .conditions import IDEAL, Conditions
from .encoding import Encoding
from .masks import Masks, prepare_masks
from .observe import Bench, Seen
from .plane import WHOLE, Window, fast_plane

Signs = Literal["pair", "offset", "phase"]
"""How negative inputs are shown: twice, as positive and negative part (twice the frames); raised by a
constant whose image a calibration frame knows; or with a phase of half a wave (coherent, linear schemes)."""

_TYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class PassResult:
    """What a pass gives."""

    answer: Tensor
    """Correlation of tiles and kernels. Shape (broadcast of T and K, p, q)."""
    frames: int
    """Camera frames per mask set and plane of tiles."""
    level: Tensor
    """Largest field (incoherent: intensity) at the camera, for an input amplitude of 1. Broadcasts against
    (*K, F, 1, 1, 1); hand it to a later pass to fix exposure and reference."""
    peak_electrons: float | None
    """In the brightest pixel that was read; ``None`` when electrons are not counted."""
    saturated: float
    """Share of pixels at the ceiling of the converter."""
    efficiency: float
    """Share of the light behind the input plane that reaches the pixels, of a white spectrum."""


def simulate_pass(
    inputs: Tensor,
    kernel: Tensor | Masks,
    *,
    scheme: str = "homodyne",
    encoding: Encoding = "complex",
    conditions: Conditions = IDEAL,
    window: Window = WHOLE,
    signs: Signs | None = None,
    peak: float | None = None,
    level: Tensor | None = None,
    summed: int | None = None,
    added: int | None = None,
    generator: torch.Generator | None = None,
    shortcut: bool = True,
) -> PassResult:
    """Correlate tiles with kernels in light.

    Args:
        inputs: Real tiles. Shape (*T, h, w). One tile may be a whole input plane.
        kernel: Real kernels of shape (*K, k, l), K broadcasting against T; or their masks from
            ``prepare_masks``, which bring scheme, encoding and conditions with them.
        scheme: How signs are handled; a name in ``detection.SCHEMES``.
        encoding: How the mask modulates light.
        conditions: What is not ideal.
        window: Padding of the tiles, and stride of the pixels that are read.
        signs: How negative inputs are shown; ``None`` refuses them.
        peak: Largest absolute input that the modulator is set to, beyond which it saturates; ``None`` takes
            that of ``inputs``.
        level: ``level`` of an earlier result, which fixes reference and exposure; ``None`` measures it.
        summed: An axis of the broadcast T and K, counted from the end (-1 the last), over which the light
            adds before the camera.
        added: An axis of the answer's leading ones, counted from the end, over which what the camera read
            adds.
        generator: Source of all noise of the pass.
        shortcut: Whether an ideal pass of one small kernel may be computed as the correlation that it is, and
            two tiles with real fields in one transform. Without, no tile knows of another to the last bit.

    Returns:
        The correlation, as linear algebra would have it but for the conditions, and what it took.

    Raises:
        UsageError: If inputs are negative and ``signs`` is ``None``, or something does not fit or is unknown.
    """
    _check(inputs, kernel.kernel if isinstance(kernel, Masks) else kernel, signs)
    tile = (inputs.shape[-2], inputs.shape[-1])
    masks = (
        kernel
        if isinstance(kernel, Masks)
        else prepare_masks(
            kernel,
            fast_plane(window, tile),
            scheme=scheme,
            encoding=encoding,
            conditions=conditions,
            summed=summed,
        )
    )
    low, high = (float(value) for value in torch.aminmax(inputs.detach()))
    largest = max(high, -low) if peak is None else peak
    bench = Bench(masks, window, largest or 1.0, level, summed, added, generator, not shortcut)
    if signs == "pair":
        seen = bench.observe(torch.stack((inputs.clamp(min=0), (-inputs).clamp(min=0))))
        return _result(seen, seen.answer[0] - seen.answer[1], masks, 2)
    if signs == "offset":
        seen = bench.observe((inputs + bench.peak) / 2)
        return _result(seen, 2 * seen.answer - bench.calibration(tile), masks, 1)
    if signs == "phase" and not (masks.scheme.coherent and masks.scheme.linear):
        message = f"expected a linear scheme of coherent light for negative fields, got {masks.scheme.name}"
        raise UsageError(message + "; show signs as 'pair' or 'offset'")
    if low < 0 and signs != "phase":
        message = f"expected inputs of at least 0, got {low:.3g}"
        raise UsageError(message + "; choose how signs are shown, 'pair' or 'offset'")
    if shortcut and level is None and direct.fits(inputs, masks):
        seen = direct.correlate(inputs, masks, window, bench.peak)
    else:
        seen = bench.observe(inputs)
    return _result(seen, seen.answer, masks, 1)


def _check(inputs: Tensor, kernel: Tensor, signs: str | None) -> None:
    """Refuse what no plane shows.

    Raises:
        UsageError: Saying what is wrong with types, sizes or signs.
    """
    if inputs.dtype not in _TYPES or kernel.dtype != inputs.dtype:
        message = (
            f"expected tiles and kernels both in float32 or float64, got {inputs.dtype} and {kernel.dtype}"
        )
        raise UsageError(message + "; convert them first")
    if inputs.dim() < 2 or kernel.dim() < 2 or not inputs.numel() or not kernel.numel():
        shapes = f"{tuple(inputs.shape)} and {tuple(kernel.shape)}"
        message = f"expected tiles (..., h, w) and kernels (..., k, l) with values in them, got {shapes}"
        raise UsageError(message + "; reshape them")
    if signs is not None and signs not in get_args(Signs):
        raise unknown_name(kind="way to show signs", name=signs, known=get_args(Signs))


def _result(seen: Seen, answer: Tensor, masks: Masks, times: int) -> PassResult:
    return PassResult(
        answer=answer,
        frames=times * masks.scheme.frames,
        level=seen.level,
        peak_electrons=seen.peak_electrons,
        saturated=seen.saturated,
        efficiency=float(masks.light.mean()),
    )
