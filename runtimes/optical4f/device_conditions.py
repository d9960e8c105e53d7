"""What a preset's parts do to a pass, as conditions of the simulation."""

from __future__ import annotations

from .conditions import IDEAL, Conditions
from .presets import System
from .simulate import Signs


def conditions_of(system: System) -> Conditions:
    """Give the non-idealities of a system; its electrons are those of a full well until a schedule knows."""
    if system.ideal:
        return IDEAL
    camera = system.camera
    return Conditions(
        input_bits=system.input.bits,
        contrast=system.input.contrast,
        mask_bits=system.mask.bits,
        full_well=camera.full_well_e,
        read_noise=camera.read_noise_e,
        prnu=camera.prnu,
        adc_bits=camera.bits,
        laser_rin=system.laser_rin,
        phase_drift=system.phase_drift,
    )


def signs_of(system: System, *, signed_input: bool) -> Signs | None:
    """Say how negative inputs of a layer are shown, None where it has none."""
    return system.signs if signed_input else None
