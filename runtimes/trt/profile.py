"""The batch sizes an engine is built for: one optimization profile, from the row of the device."""

from __future__ import annotations

from ...errors import BuildError
from ...export.artifact import Exported
from ..device import Device
from .order import Profile

BATCH = "batch"


def profile_of(exported: Exported, device: Device) -> Profile:
    """Give the shapes of every input with a free batch; empty where all sizes are fixed.

    Raises:
        BuildError: If another size is free, or the row of the device has no batch sizes.
    """
    for spec in exported.inputs:
        free = [dim for dim in spec.shape if isinstance(dim, str) and dim != BATCH]
        if free:
            message = (
                f"expected every size but the batch to be fixed for TensorRT, got {free[0]!r} in the input "
                f"{spec.name!r}; fix it with --input-shape"
            )
            raise BuildError(message)
    free = [spec for spec in exported.inputs if BATCH in spec.shape]
    if free and not device.batches:
        message = (
            f"expected batch sizes in the row of {device.name} for the free batch of {exported.name}, got "
            "none; set 'batches' to the smallest, usual and largest, for example [1, 1, 8]"
        )
        raise BuildError(message)
    least, usual, most = device.batches or (1, 1, 1)
    return {
        spec.name: (_sized(spec.shape, least), _sized(spec.shape, usual), _sized(spec.shape, most))
        for spec in free
    }


def _sized(shape: tuple[int | str, ...], batch: int) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else batch for dim in shape)
