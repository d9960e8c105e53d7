"""Everything that separates a real 4f correlator from the mathematics, as one value; ideal by default.

Each field switches one non-ideality and says its unit and where its usual values come from:
S a source was read, M measured or derived here, K textbook or data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from ...errors import UsageError

Exposure = Literal["full-scale", "mean", "source"]
"""What ``electrons`` counts. ``full-scale``: in the brightest pixel that is read, of every mask (the exposure
is set per mask). ``mean``: in the mean pixel that is read. ``source``: in a pixel that sees a fully
transparent input through a lossless mask, so that what the mask absorbs is missing at the camera."""

MOST_BITS = 24
"""What float32 holds."""

EXPOSURES: tuple[Exposure, ...] = ("full-scale", "mean", "source")


@dataclass(frozen=True)
class Conditions:
    """The non-idealities of one device. A field that is ``None`` or zero is switched off."""

    # Input modulator
    input_bits: int | None = None
    """Bits of the input amplitude (of the intensity, when incoherent). DMD 1, LCoS 8 [K]."""
    contrast: float | None = None
    """Intensity ratio of a bright to a dark input pixel: a dark pixel keeps the amplitude 1/sqrt(contrast),
    in the guard bands too. 50 to 1000 [M]."""
    contrast_known: bool = True
    """Whether the read-out subtracts that floor, which a dark frame measures."""
    input_fill: float = 0.0
    """Width of an input pixel in pitches; its transform, a sinc, weighs the mask. DMD 0.96 [K], 0 a point."""

    # Mask
    mask_bits: int | None = None
    """Bits of the mask's amplitude and of its phase, each. LCoS 8 [K]."""
    mask_shift: tuple[float, float] = (0.0, 0.0)
    """Lateral misalignment of the mask, down and right, in mask pixels (arXiv 2210.08004) [S]."""
    mask_pixels: tuple[int, int] | None = None
    """Pixels of the whole mask; ``None``: as many as the simulated plane has. Only a shift depends on it."""
    precompensate: bool = False
    """Whether the mask is divided by the pixel's sinc, at the price of light."""

    # Optics
    defocus: float = 0.0
    """W020 in waves at the rim of the pupil, the circle inscribed in the mask."""
    zernike: tuple[tuple[int, float], ...] = ()
    """Pairs of Noll's index and the coefficient in waves rms, over the same pupil (Noll 1976) [K]."""
    stop: float | None = None
    """Radius of a circular stop at the mask, in pupil radii; ``None``: the square mask is the stop."""

    # Light
    electrons: float | None = None
    """Photo-electrons per pixel and frame, as ``exposure`` counts them; ``None``: light without number."""
    exposure: Exposure = "full-scale"
    shot_noise: bool = True
    """Whether the electrons, where they are counted, are Poisson distributed."""
    exact_poisson: bool = False
    """Draw from the Poisson law itself. Otherwise from the normal law of equal mean and variance, whose
    distribution function is off by at most 0.07/sqrt(n) at n electrons (first Edgeworth term) [M]."""
    laser_rin: float = 0.0
    """Relative intensity noise of the light, rms from frame to frame. 1e-3 to 1e-2 [K]."""
    reference: float = 1.0
    """Amplitude of the reference field, in units of the largest field that is read."""
    phase_drift: float = 0.0
    """Phase of the reference against the signal, in radians rms from pass to pass."""

    # Camera
    camera_shift: tuple[float, float] = (0.0, 0.0)
    """Lateral misalignment of the camera, down and right, in pixels."""
    read_noise: float = 0.0
    """Electrons rms per pixel and read. sCMOS 1 to 2, high speed 20 to 40 [K]."""
    dark: float = 0.0
    """Dark electrons per pixel and frame; their mean is subtracted, their shot noise stays."""
    prnu: float = 0.0
    """Photo-response non-uniformity, relative, rms over pixels (EMVA 1288). 0.01 [K]."""
    dsnu: float = 0.0
    """Dark-signal non-uniformity in electrons, rms over pixels (EMVA 1288)."""
    full_well: float | None = None
    """Electrons at which a pixel and the converter saturate. 1e4 to 3e4 [K]. ``None``: at full scale."""
    offset: float = 0.0
    """Black level in electrons, added before the converter and subtracted after it."""
    adc_bits: int | None = None
    """Bits of the camera's converter over zero to full well. 8 to 12 [K]."""
    pattern_seed: int = 0
    """Seed of the patterns that stay from frame to frame (PRNU, DSNU)."""

    def __post_init__(self) -> None:
        _check(self)

    def only(self, *names: str) -> Conditions:
        """Switch everything off but the named fields, for an error budget.

        Args:
            names: Fields of this class. What merely sets the scene (``exposure``, ``electrons`` without shot
                noise, ``full_well`` and the like) has to be named too when it matters.

        Returns:
            New conditions.
        """
        known = {field.name for field in fields(self)}
        for name in names:
            if name not in known:
                message = (
                    f"expected fields of Conditions, got {name!r}; choose from {', '.join(sorted(known))}"
                )
                raise UsageError(message)
        return replace(IDEAL, **{name: getattr(self, name) for name in names})

    @property
    def full_scale(self) -> float | None:
        """Electrons that the light is set to: ``electrons``, or the full well when only that is known."""
        return self.electrons if self.electrons is not None else self.full_well

    @property
    def aberrated(self) -> bool:
        """Whether the pupil changes the phase of what passes it."""
        return self.defocus != 0 or any(waves != 0 for _, waves in self.zernike)

    @property
    def noisy(self) -> bool:
        """Whether two passes over the same input differ."""
        counted = self.full_scale is not None
        return (
            (counted and (self.shot_noise or self.read_noise > 0))
            or self.laser_rin > 0
            or self.phase_drift > 0
        )


def _check(conditions: Conditions) -> None:
    """Refuse what no device can have.

    Raises:
        UsageError: Naming the field.
    """
    for name in ("input_bits", "mask_bits", "adc_bits"):
        bits: int | None = getattr(conditions, name)
        if bits is not None and not 1 <= bits <= MOST_BITS:
            message = f"expected {name} from 1 to {MOST_BITS}, got {bits}; use None for no quantization"
            raise UsageError(message)
    for name in ("contrast", "electrons", "full_well", "reference", "stop"):
        above: float | None = getattr(conditions, name)
        if above is not None and not above > 0:
            message = f"expected {name} above 0, got {above}; use None to leave it out"
            raise UsageError(message)
    for name in ("read_noise", "dark", "prnu", "dsnu", "laser_rin", "phase_drift", "input_fill", "offset"):
        value: float = getattr(conditions, name)
        if not value >= 0:
            message = f"expected {name} of at least 0, got {value}; use 0 to switch it off"
            raise UsageError(message)
    if conditions.exposure not in EXPOSURES:
        message = f"expected exposure from {', '.join(EXPOSURES)}, got {conditions.exposure!r}; choose one"
        raise UsageError(message)
    needs = [name for name in ("read_noise", "dark", "dsnu", "offset") if getattr(conditions, name)]
    if needs and conditions.full_scale is None:
        message = (
            f"expected electrons or full_well beside {needs[0]}, got neither; {needs[0]} is in electrons"
        )
        raise UsageError(message)


IDEAL = Conditions()
"""Mathematics: no noise, no quantization, no aberration."""
