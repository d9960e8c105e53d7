"""How much light reaches the camera when many kernels share one mask.

A mask only absorbs, so its transmission is divided by its largest value: the more kernels it holds, the less
light each gets. Of a white spectrum each of K kernels gets mean |H|^2 / (K max |H|^2). For random kernels of
3 x 3 on a grid, in a response of 256 x 256 pixels and from 1024 on in one of 1080 x 1920 (which holds no more
than 230400), that is (simulated here, and again by a test)::

    kernels   1      4       16      64       256       1024     4096     16384    65536    230400
    light     0.32   0.051   0.011   0.0020   0.00038   8.0e-5   1.9e-5   4.4e-6   1.1e-6   3.0e-7

Powers between. Many kernels have a spectrum of speckles, whose brightest of N pixels has about ln N times the
mean (Goodman, Speckle Phenomena in Optics, 3.2) [K]: light tends to 1 / (K ln N), also beyond the table. The
fields of the c channels of one answer add in the light, so an answer is at least c times as bright as one of
its products. Electrons in the brightest pixel of a frame::

    n = c light(kernels) P t / (h nu R1 R2) QE eta

of a laser of power P in the time t that the frame stands still, on R1 R2 pixels, through optics and
modulators of transmission eta.
"""

from __future__ import annotations

import math

from .presets import System

_MANY = ((1024, 8.0e-5), (4096, 1.9e-5), (16384, 4.4e-6), (65536, 1.07e-6), (230400, 3.0e-7))
_MEASURED = ((1, 0.32), (4, 0.051), (16, 0.011), (64, 2.0e-3), (256, 3.8e-4), *_MANY)


def light_per_kernel(on_mask: int) -> float:
    """Give the share of the light that one of so many kernels gets."""
    x = math.log(on_mask)
    points = [(math.log(count), math.log(share)) for count, share in _MEASURED]
    after = next((i for i, (place, _) in enumerate(points) if place >= x), len(points) - 1)
    after = max(after, 1)
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))


def electrons(system: System, on_mask: int, channels: int) -> float:
    """Give the photo-electrons at the brightest pixel, at full laser power and without saturation.

    Args:
        system: Laser, modulators, camera.
        on_mask: Kernels that share the mask.
        channels: Whose fields add in one answer.
    """
    exposure = exposure_us(system) * 1e-6
    photons = system.laser.power_mw * 1e-3 * exposure / system.laser.photon_j
    transmission = system.optics_efficiency * system.input.efficiency * system.mask.efficiency
    per_pixel = photons / (system.width * system.height) * transmission * system.camera.quantum_efficiency
    return per_pixel * light_per_kernel(on_mask) * min(channels, on_mask)


def exposure_us(system: System) -> float:
    """Give how long a frame stands still for the camera."""
    period = max(system.input.frame_us, system.camera.frame_us)
    return max(period - system.input.settle_us, 0.1 * period)


def enough(system: System, on_mask: int, channels: int) -> bool:
    """Say whether a mask of so many kernels leaves the electrons that the system wants."""
    return electrons(system, on_mask, channels) >= system.wanted_electrons
