"""``optical claim``: what named inputs amount to, how far each one moves it, and what a camera would say."""

from __future__ import annotations

from dataclasses import dataclass

from ..runtimes.optical4f.claims import Claim
from ..runtimes.optical4f.energy import Reality, amdahl, reality


@dataclass(frozen=True)
class Claimed:
    """A claim of speed-up beside what bounds it; modelled from its inputs, nothing measured."""

    claim: Claim
    """Its inputs, and the speed-up of what light computes."""
    share: float
    """Of the digital time that light takes over."""
    reality: Reality
    """What one processor asks of cameras and links."""

    @property
    def whole(self) -> float:
        """Speed-up of everything (Amdahl)."""
        return amdahl(self.share, self.claim.speed_up)


def claim(
    *,
    digital_ms: float,
    frames: float,
    rate: float,
    batch: int = 1,
    planes: int = 1,
    size: tuple[int, int] = (1920, 1080),
    pixel_bits: int = 8,
    digital_w: float = 0.0,
    optical_w: float = 0.0,
    share: float = 1.0,
) -> Claimed:
    """Compute what a claimed speed-up stands on.

    Args:
        digital_ms: Time of the digital computer for the batch.
        frames: Camera frames of all layers, for the batch.
        rate: Frames a second of one processor.
        batch: Samples.
        planes: Processors side by side.
        size: Width and height of a frame in pixels.
        pixel_bits: Of a camera's pixel.
        digital_w: Power of the digital computer; 0 where energy is not claimed.
        optical_w: Power of the optical processor; likewise.
        share: Of the digital time that light takes over.
    """
    made = Claim(digital_ms * 1e-3, batch, frames, rate, planes, digital_w, optical_w)
    return Claimed(made, share, reality(*size, rate, pixel_bits))
