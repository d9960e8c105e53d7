"""Latency and energy of a schedule on one system: modelled, never measured.

    t_frame  = max(input + settling, camera), and the mask's time too in a frame that loads a new mask
    t_net    = sum over layers of frames t_frame + mask loads, + link + electronics      (all after all)
    rate     = batch / max(optics, link, electronics)                                    (pipelined)
    E_laser  = N_px n e h nu / (QE eta light wall-plug)  light: share that reaches the answers (``light``)
                                                         e: exposure beyond the full range (``set_up``)
    E        = (P_input + P_mask + P_camera) t_optics + E_laser
             + N_px (E_DAC + E_ADC + bytes E_memory) + MAC E_MAC

Against a digital computer an optical pixel costs E_px / k^2 per multiply-add, so it wins against direct
convolution only for k > sqrt(E_px / E_MAC), and at any k only when E_px is below 5 log2(p^2) flops, what a
digital FFT of p x p spends per pixel: that price does not depend on the kernel. An accelerated share a of the
work gives at most 1 / ((1 - a) + a / s) (Amdahl).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .light import light_per_kernel
from .presets import System
from .schedule import Plan

FASTEST_CAMERA_GPX = 75.0
"""Gigapixels a second of the fastest camera on the market (Photoniques 131, 1 Mpx at 76 kHz)."""


@dataclass(frozen=True)
class Cost:
    """Seconds and joules of one batch, by where they go."""

    optics_s: float
    link_s: float
    electronics_s: float
    modulators_j: float
    camera_j: float
    laser_j: float
    converters_j: float
    memory_j: float
    electronics_j: float

    @property
    def latency_s(self) -> float:
        """Everything after everything."""
        return self.optics_s + self.link_s + self.electronics_s

    @property
    def stage_s(self) -> float:
        """The slowest stage of a pipeline."""
        return max(self.optics_s, self.link_s, self.electronics_s)

    @property
    def energy_j(self) -> float:
        """All of it."""
        return sum(value for _, value in self.energies())

    def energies(self) -> tuple[tuple[str, float], ...]:
        """Give the parts by name."""
        return (
            ("modulators", self.modulators_j),
            ("camera", self.camera_j),
            ("laser", self.laser_j),
            ("converters", self.converters_j),
            ("memory", self.memory_j),
            ("electronics", self.electronics_j),
        )


def cost(plans: Sequence[Plan], system: System, *, electronic_macs: float) -> Cost:
    """Model one batch.

    Args:
        plans: Of every optical layer.
        system: The hardware.
        electronic_macs: Multiply-adds (or operations on one number) that stay electronic.
    """
    frames, pixels = sum(p.frames for p in plans), system.width * system.height
    optics = sum(optics_seconds(p, system) for p in plans)
    bits = system.input.bits + system.camera.bits
    host = system.electronics
    return Cost(
        optics_s=optics,
        link_s=frames * pixels * bits / (host.link_gbit_s * 1e9),
        electronics_s=electronic_macs / (host.mac_gops * 1e9),
        modulators_j=(system.input.power_w + system.mask.power_w) * optics,
        camera_j=system.camera.power_w * optics,
        laser_j=sum(laser_joules(p, system) for p in plans),
        converters_j=frames * pixels * (host.dac_pj + host.adc_pj) * 1e-12,
        memory_j=frames * pixels * bits / 8 * host.memory_pj_per_byte * 1e-12,
        electronics_j=electronic_macs * host.mac_pj * 1e-12,
    )


def optics_seconds(plan: Plan, system: System) -> float:
    """Give the time of a layer's frames."""
    period = frame_us(system)
    loading = max(period, system.mask.frame_us + system.mask.settle_us)
    loads = min(plan.mask_loads, plan.frames)
    return ((plan.frames - loads) * period + loads * loading) * 1e-6


def frame_us(system: System) -> float:
    """Give the period of frames under one mask."""
    return max(system.input.frame_us + system.input.settle_us, system.camera.frame_us)


def laser_joules(plan: Plan, system: System) -> float:
    """Give the electricity that the laser takes for a layer, at most what it can."""
    most = plan.frames * system.laser.power_mw * 1e-3 * frame_us(system) * 1e-6
    layout = plan.layout
    light = light_per_kernel(layout.on_mask) * min(layout.channels, layout.on_mask)
    eta = system.optics_efficiency * system.input.efficiency * system.mask.efficiency
    wanted = min(system.wanted_electrons, system.camera.full_well_e) * plan.exposure
    photons = system.width * system.height * wanted / (system.camera.quantum_efficiency * eta * light)
    return min(plan.frames * photons * system.laser.photon_j, most) / system.laser.wall_plug


@dataclass(frozen=True)
class Reality:
    """What a plane and a frame rate ask of cameras and links."""

    pixels_per_second: float
    times_fastest_camera: float
    bits_per_second: float

    @property
    def sentence(self) -> str:
        """Say it."""
        return (
            f"{_short(self.pixels_per_second)}px/s and {_short(self.bits_per_second)}bit/s: "
            f"{self.times_fastest_camera:.3g} times the fastest commercial camera "
            f"({FASTEST_CAMERA_GPX:g} Gpx/s)"
        )


def reality(width: int, height: int, frames_per_second: float, bits: int) -> Reality:
    """Check input and output against what is sold."""
    pixels = width * height * frames_per_second
    return Reality(pixels, pixels / (FASTEST_CAMERA_GPX * 1e9), pixels * bits)


def break_even_kernel(pixel_j: float, mac_j: float) -> int:
    """Give the side of the smallest kernel at which one optical pixel costs less than k^2 multiply-adds."""
    return math.floor(math.sqrt(pixel_j / mac_j)) + 1


def fft_flops_per_pixel(side: int) -> float:
    """Give what a digital Fourier transform of side x side spends per pixel, 5 log2(side^2)."""
    return 5 * math.log2(side * side)


def amdahl(share: float, speed_up: float) -> float:
    """Bound the speed-up of the whole when a share of the time gets faster."""
    return 1 / ((1 - share) + share / speed_up)


def _short(value: float) -> str:
    for prefix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= unit:
            return f"{value / unit:.3g} {prefix}"
    return f"{value:.3g} "
