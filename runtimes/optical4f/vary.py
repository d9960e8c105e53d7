"""A processor with one thing different: another detection scheme, fewer bits, less light, a shifted mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...errors import UsageError
from .conditions import IDEAL, MOST_BITS, Conditions
from .detection import get_scheme
from .presets import System

Adjust = Callable[[Conditions], Conditions]
"""From the conditions of a layer on the device to those that are simulated."""


def as_it_is(known: Conditions) -> Conditions:
    """Change nothing."""
    return known


@dataclass(frozen=True)
class Variation:
    """What differs from the device; ``None`` leaves it as it is.

    Raises:
        UsageError: If no device could be like that.
    """

    scheme: str | None = None
    """How signs are detected."""
    bits: int | None = None
    """Of the camera's converter."""
    photons: float | None = None
    """Photo-electrons at the brightest pixel."""
    shift: float | None = None
    """Of the mask, in its pixels, to the right."""

    def __post_init__(self) -> None:
        if self.bits is not None and not 1 <= self.bits <= MOST_BITS:
            message = f"expected 1 to {MOST_BITS} bits, got {self.bits}; leave them out for the device's own"
            raise UsageError(message)
        if self.photons is not None and not self.photons > 0:
            message = f"expected photons above 0, got {self.photons:g}; leave them out for the device's own"
            raise UsageError(message)
        if self.scheme is not None:
            get_scheme(self.scheme)

    def system(self, device: System) -> System:
        """Give the device with the scheme of this variation.

        Negative inputs as a phase of half a wave need a scheme that sees the sign of a field; another one
        shows them in two frames.

        Raises:
            UsageError: If there is no such scheme.
        """
        if self.scheme is None:
            return device
        scheme = get_scheme(self.scheme)
        seen = scheme.coherent and scheme.linear
        signs = "pair" if device.signs == "phase" and not seen else device.signs
        return replace(device, scheme=scheme.name, signs=signs)

    def adjust(self, known: Conditions) -> Conditions:
        """Put the differences on top of a layer's conditions; light that is brighter fills a deeper well."""
        found = known
        if self.bits is not None:
            found = replace(found, adc_bits=self.bits)
        if self.photons is not None:
            well = max(self.photons, found.full_well or 0.0)
            found = replace(found, electrons=self.photons, full_well=well)
        if self.shift is not None:
            found = replace(found, mask_shift=(0.0, self.shift))
        return found

    @property
    def title(self) -> str:
        """Name what differs."""
        parts = (
            self.scheme,
            None if self.bits is None else f"{self.bits} bits",
            None if self.photons is None else f"{self.photons:g} electrons",
            None if self.shift is None else f"mask off by {self.shift:g} px",
        )
        return ", ".join(part for part in parts if part) or "as the device is"


CAUSES: dict[str, tuple[str, ...]] = {
    "range": (),
    "input bits": ("input_bits",),
    "contrast": ("contrast", "contrast_known"),
    "mask bits": ("mask_bits",),
    "mask shift": ("mask_shift", "mask_pixels"),
    "pixel aperture": ("input_fill", "precompensate"),
    "defocus": ("defocus",),
    "aberrations": ("zernike", "stop"),
    "saturation": ("electrons", "full_well", "exposure"),
    "shot noise": ("electrons", "full_well", "exposure", "shot_noise"),
    "read noise": ("electrons", "full_well", "exposure", "read_noise"),
    "pixel response": ("prnu", "pattern_seed"),
    "converter bits": ("electrons", "full_well", "exposure", "adc_bits"),
    "laser intensity": ("laser_rin",),
    "reference phase": ("phase_drift",),
    "camera shift": ("camera_shift",),
}
"""What limits a device, each by the fields of ``Conditions`` that make it.

``range`` is the modulator alone: inputs beyond what a layer was set up for saturate, whatever else there is.
``saturation`` is the camera alone: answers beyond its exposure, whatever else the camera does to them.
"""


def alone(cause: str) -> Adjust:
    """Switch everything off but one cause.

    Args:
        cause: A key of ``CAUSES``.
    """

    def adjust(known: Conditions) -> Conditions:
        one = replace(IDEAL, reference=known.reference).only("reference")
        names = {name: getattr(known, name) for name in CAUSES[cause]}
        shot = known.shot_noise if cause == "shot noise" else False
        return replace(one, **names | {"shot_noise": shot})

    return adjust


def present(known: Conditions) -> tuple[str, ...]:
    """Name the causes that a device has at all: what simulates differently with them alone than without."""
    return tuple(cause for cause, names in CAUSES.items() if not names or _differs(cause, names, known))


def _differs(cause: str, names: tuple[str, ...], known: Conditions) -> bool:
    setting = {
        "electrons",
        "full_well",
        "exposure",
        "pattern_seed",
        "contrast_known",
        "mask_pixels",
        "precompensate",
    }
    if cause == "saturation":
        return known.full_well is not None
    if cause == "shot noise":
        return known.shot_noise and known.full_scale is not None
    return any(getattr(known, name) != getattr(IDEAL, name) for name in names if name not in setting)
