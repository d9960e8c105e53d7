"""Linear quantization while running: ``q = clip(round(x / scale) + zero point)`` and back.

Rounding is to the nearest integer, ties to even: MIL documents its own ``round`` so ("0.5 is rounded to 0"),
and coremltools folds constants so; for ``quantize`` Apple does not say more. The quotient is taken in
float32 and not rounded to fp16 in between.
"""

from __future__ import annotations

from torch import Tensor

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """Quantize, with one scale and zero point in all or one for each place of an axis."""
    if output_dtype not in _RANGES:
        message = f"expected the output int8 or uint8, got {output_dtype!r}"
        raise ValueError(message)
    whole = (input / along(scale, input, axis)).round()
    if zero_point is not None:
        whole = whole + along(zero_point, input, axis).float()
    return whole.clamp(*_RANGES[output_dtype])


def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """Give ``(q - zero point) * scale``."""
    values = input.float()
    if zero_point is not None:
        values = values - along(zero_point, input, axis).float()
    return values * along(scale, input, axis)


def along(values: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """Shape a list of values so that it lies along an axis of x; one value fits everywhere."""
    if values.numel() == 1 or axis is None:
        return values.reshape(()) if values.numel() == 1 else values
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)
