"""How one layer is put on a device: the schedule of its frames, and what that leaves for each exposure.

The same for a compiled program and for a network that is tuned in light: both see the same channels per
exposure, the same sharing of masks, and the same electrons.
"""

from __future__ import annotations

from .detection import get_scheme
from .lower import Layer
from .passes import Setting
from .presets import System
from .schedule import Plan, Work, plan


def fits(layer: Layer, size: tuple[int, int], system: System) -> bool:
    """Say whether a picture of this size lies on the plane."""
    rows, columns = layer.axes(*size)
    return rows.count(system.height) * columns.count(system.width) > 0


def scheduled(layer: Layer, pictures: int, size: tuple[int, int], system: System) -> Plan:
    """Schedule a layer.

    Args:
        layer: The layer.
        pictures: Of the whole batch.
        size: Height and width of a picture.
        system: The hardware.
    """
    scheme = get_scheme(system.scheme)
    shown = 2 if layer.signed_input and system.signs == "pair" else 1
    work = Work.of(layer, pictures, *size)
    return plan(work, system, frames_per_pass=scheme.frames * shown, masks_per_pass=scheme.parts)


def setting_of(layer: Layer, chosen: Plan, system: System) -> Setting:
    """Give what a schedule means for the layer's exposures; what its inputs are is not known yet."""
    return Setting(
        channels=min(chosen.layout.channels, layer.channels),
        together=chosen.layout.kernels * chosen.layout.groups > 1,
        electrons=min(chosen.electrons, system.camera.full_well_e),
        available=chosen.electrons,
    )
