"""What a mask can show of a transfer function H with |H| <= 1, and what it makes of the rest.

``complex``         H itself; with b bits, |H| and arg H in b bits each: two modulators
``phase-only``      exp(i arg H): LCoS; the lengths of H are lost
``amplitude-only``  |H|: the phases of H are lost
``binary``          1 where |H| exceeds its median, else 0: DMD; phases and most of the lengths are lost
``double-phase``    a exp(i p) = (exp(i(p + acos a)) + exp(i(p - acos a))) / 2, the two on the black and the
                    white squares of a checkerboard (Hsueh and Sawchuk, Appl. Opt. 17, 3874, 1978) [K].
                    The squares differ from H by i (-1)^(u+v) sqrt(1 - a^2) exp(i p), a second image half
                    a plane away and 90 degrees behind: a reference field does not see it, but a camera
                    that takes roots of intensities does, and it takes light

All but the last turn conjugate pairs into conjugate pairs, so the field of a real kernel stays real.

Axes: P Q rows and columns of the mask plane, in the order of the FFT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ...errors import unknown_name
from .rounding import quantize, quantize_phase, through

Encoding = Literal["complex", "phase-only", "amplitude-only", "binary", "double-phase"]

KEEPS_REAL: frozenset[Encoding] = frozenset(("complex", "phase-only", "amplitude-only", "binary"))
"""Encodings under which a real kernel gives a real field."""


def encode(transfer: Tensor, encoding: Encoding, bits: int | None = None) -> Tensor:
    """Find what the mask shows for a wanted transfer function.

    Args:
        transfer: Wanted transmission, complex, at most 1 in absolute value. Shape (..., P, Q).
        encoding: How the mask modulates light.
        bits: Bits of its amplitude and its phase; ``None`` for continuous ones.

    Returns:
        The transmission shown: complex, at most 1 in absolute value. Shape (..., P, Q).

    Raises:
        UsageError: If the encoding is not known.
    """
    if encoding not in ENCODINGS:
        raise unknown_name(kind="encoding of the mask", name=encoding, known=ENCODINGS)
    return ENCODINGS[encoding](transfer, bits)


def _complex(transfer: Tensor, bits: int | None) -> Tensor:
    if bits is None:
        return transfer
    amplitude = quantize(transfer.detach().abs(), bits)
    shown = torch.polar(amplitude, quantize_phase(transfer.detach().angle(), bits))
    return through(shown, transfer)


def _phase_only(transfer: Tensor, bits: int | None) -> Tensor:
    phase = quantize_phase(transfer.angle(), bits)
    return torch.polar(torch.ones_like(phase), phase)


def _amplitude_only(transfer: Tensor, bits: int | None) -> Tensor:
    amplitude = quantize(transfer.abs(), bits)
    return torch.complex(amplitude, torch.zeros_like(amplitude))


def _binary(transfer: Tensor, bits: int | None) -> Tensor:
    amplitude = transfer.abs()
    middle = amplitude.detach().flatten(-2).median(-1).values[..., None, None]
    shown = through((amplitude > middle).to(amplitude.dtype), amplitude)
    return torch.complex(shown, torch.zeros_like(shown))


def _double_phase(transfer: Tensor, bits: int | None) -> Tensor:
    amplitude = transfer.abs().clamp(max=1 - 1e-6)  # the slope of acos is infinite at 1
    swing = torch.acos(amplitude) * _checkerboard(transfer)
    phase = quantize_phase(transfer.angle() + swing, bits)
    return torch.polar(torch.ones_like(phase), phase)


def _checkerboard(like: Tensor) -> Tensor:
    rows = torch.arange(like.shape[-2], device=like.device)[:, None]
    columns = torch.arange(like.shape[-1], device=like.device)
    return 1.0 - 2.0 * ((rows + columns) % 2)


ENCODINGS: dict[str, Callable[[Tensor, int | None], Tensor]] = {
    "complex": _complex,
    "phase-only": _phase_only,
    "amplitude-only": _amplitude_only,
    "binary": _binary,
    "double-phase": _double_phase,
}
