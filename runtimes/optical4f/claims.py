"""What a claim of speed-up stands on: every input by name, and how far each one moves the result.

    speed-up = t_digital(B) f n / frames(B)        f frames a second on n planes, B samples in both

FatNet (arXiv 2210.16914) counts convolutions, sum of C_in C_out: 1,220,800 / 148,792 = 8.205 fewer than its
residual baseline, while its multiply-adds grow sixfold. ConvShareViT (arXiv 2504.11517) states up to 3.04x
against a GPU; the frame rate, plane, tiles and GPU behind that number could not be obtained, so it is not
reproduced here: ``Claim`` computes what given inputs amount to, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .tiling import Axis, tiles_on

RESIDUAL_CIFAR100: tuple[tuple[int, int], ...] = (
    (3, 64),
    *[(64, 64)] * 4,
    *[(64, 128), *[(128, 128)] * 3],
    *[(128, 256), *[(256, 256)] * 3],
    *[(256, 512), *[(512, 512)] * 3],
)
"""Input and output channels of the 17 convolutions of FatNet's residual baseline."""


@dataclass(frozen=True)
class Claim:
    """A speed-up against a digital computer, from named inputs."""

    digital_s: float
    """Time of the digital computer for the batch."""
    batch: int
    frames: float
    """Of all layers, for the batch."""
    frames_per_second: float
    planes: int = 1
    """Processors side by side."""
    digital_w: float = 0.0
    """Power of the digital computer; 0 where energy is not claimed."""
    optical_w: float = 0.0

    @property
    def optical_s(self) -> float:
        """Time of the frames."""
        return self.frames / (self.frames_per_second * self.planes)

    @property
    def speed_up(self) -> float:
        """Digital by optical time."""
        return self.digital_s / self.optical_s

    @property
    def energy_ratio(self) -> float:
        """Digital by optical energy; 0 where no powers were given."""
        optical = self.optical_s * self.optical_w
        return self.digital_s * self.digital_w / optical if optical else 0.0

    @property
    def samples_per_second(self) -> float:
        """Of the optical processor."""
        return self.batch / self.optical_s

    def tornado(self, factor: float = 2.0) -> Mapping[str, tuple[float, float]]:
        """Give the speed-up when each input alone is divided, and multiplied, by a factor.

        Args:
            factor: Above 1.

        Returns:
            Pairs by the name of the input, the one that moves most first.
        """
        moved = {
            name: (
                replace(self, **{name: value / factor}).speed_up,
                replace(self, **{name: value * factor}).speed_up,
            )
            for name, value in (
                ("digital_s", self.digital_s),
                ("frames", self.frames),
                ("frames_per_second", self.frames_per_second),
            )
        }
        return dict(sorted(moved.items(), key=lambda item: -abs(item[1][1] - item[1][0])))


def convolutions(layers: Iterable[tuple[int, int]]) -> int:
    """Count two-dimensional convolutions, sum of C_in C_out."""
    return sum(inputs * outputs for inputs, outputs in layers)


def full_tiles(height: int, width: int, picture: int, kernel: int) -> int:
    """Count pictures on a plane when each keeps its full answer, at pitch n + k - 1."""
    axis = Axis(picture, kernel, kernel - 1, kernel - 1)
    return tiles_on(height, width, axis, axis)


def mirror_rate(rows: int = 1080, clocks: int = 16, clock_ns: float = 2.5) -> tuple[float, float]:
    """Give microseconds and hertz of loading a mirror device row by row (TI DLP9500 by default)."""
    micros = rows * clocks * clock_ns / 1000
    return micros, 1e6 / micros
