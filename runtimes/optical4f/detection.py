"""How signed numbers pass a camera that sees only intensities.

A scheme splits a signed kernel into masks, shows each beside every one of its reference fields r, and decodes
the intensities I = |E + r|^2 of those frames:

``pseudo-negative``  masks h+ and h-, E = sqrt(I) each, E+ - E-        exact for inputs and fields >= 0
``kernel-bias``      mask h + c >= 0, E = sqrt(I), less c boxsum(x)    one frame, and the worst noise
``reference``        r = R > |E|, E = sqrt(I) - R                      one frame
``homodyne``         r = +-R, E = (I(+R) - I(-R)) / (4 R)              linear: balanced detection
``phase-shifting``   r = R, iR, -R, -iR, Re E = (I0 - I180) / (4 R)    linear, and Im E = (I90 - I270) / (4 R)
``incoherent``       masks of amplitude sqrt(h+) and sqrt(h-): I is convolved with |F^-1 H|^2, I+ - I-

Splitting and its names: Chang et al., Sci. Rep. 8, 12324 (2018) [K]; four steps: Bruning et al., Appl. Opt.
13, 2693 (1974) [K]. The signal of an interferometric scheme scales with the cosine of its phase error.

Axes: K leading axes of kernels, F masks of one kernel, R references, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import unknown_name

Decode = Callable[[Tensor, Tensor], Tensor]
"""From intensities (..., R, h, w) and the reference's amplitude (..., 1, 1) to fields (..., h, w)."""


@dataclass(frozen=True)
class Scheme:
    """One way to see signs."""

    name: str
    split: Callable[[Tensor], Tensor]
    """From kernels (*K, k, l) to those of the masks (*K, F, k, l), whose amplitudes they are."""
    parts: int
    """F."""
    references: tuple[complex, ...]
    """Reference fields in units of R; (0,) where there is none."""
    decode: Decode
    coherent: bool = True

    @property
    def frames(self) -> int:
        """Camera frames of one pass."""
        return self.parts * len(self.references)

    @property
    def linear(self) -> bool:
        """Whether what is decoded before noise is the field itself, whatever its sign."""
        return self.references != (0,) or not self.coherent

    def join(self, fields: Tensor) -> Tensor:
        """Combine the masks' fields: the first less the second.

        Args:
            fields: Shape (..., F, h, w).

        Returns:
            Shape (..., h, w).
        """
        return fields[..., 0, :, :] - fields[..., 1, :, :] if self.parts == 2 else fields[..., 0, :, :]


def get_scheme(name: str) -> Scheme:
    """Find a scheme by name.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in SCHEMES:
        raise unknown_name(kind="detection scheme", name=name, known=SCHEMES)
    return SCHEMES[name]


def bias(kernel: Tensor) -> Tensor:
    """Give the constant that makes each kernel non-negative.

    Args:
        kernel: Shape (*K, k, l).

    Returns:
        Shape (*K, 1, 1), no gradient.
    """
    return (-kernel.detach().amin((-2, -1), keepdim=True)).clamp(min=0)


def root(values: Tensor) -> Tensor:
    """Take the square root, with gradient zero instead of infinity at zero.

    Args:
        values: Of any shape; negative ones count as zero.

    Returns:
        The roots, of the same shape.
    """
    if not values.requires_grad:
        return values.clamp(min=0).sqrt_()
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def _whole(kernel: Tensor) -> Tensor:
    return kernel.unsqueeze(-3)


def _halves(kernel: Tensor) -> Tensor:
    return torch.stack((kernel.clamp(min=0), (-kernel).clamp(min=0)), -3)


def _biased(kernel: Tensor) -> Tensor:
    return (kernel + bias(kernel)).unsqueeze(-3)


def _root_halves(kernel: Tensor) -> Tensor:
    return root(_halves(kernel))


def _amplitude(intensity: Tensor, reference: Tensor) -> Tensor:
    return root(intensity[..., 0, :, :])


def _beside_reference(intensity: Tensor, reference: Tensor) -> Tensor:
    return root(intensity[..., 0, :, :]) - reference


def _balanced(intensity: Tensor, reference: Tensor) -> Tensor:
    return (intensity[..., 0, :, :] - intensity[..., 1, :, :]) / (4 * reference)


def _four_steps(intensity: Tensor, reference: Tensor) -> Tensor:
    return (intensity[..., 0, :, :] - intensity[..., 2, :, :]) / (4 * reference)


def _intensity(intensity: Tensor, reference: Tensor) -> Tensor:
    return intensity[..., 0, :, :]


def four_step_field(intensity: Tensor, reference: Tensor) -> Tensor:
    """Decode the complex field of phase shifting, E = ((I0 - I180) + i (I90 - I270)) / (4 R).

    Args:
        intensity: Frames beside R, iR, -R and -iR. Shape (..., 4, h, w).
        reference: R. Shape (..., 1, 1).

    Returns:
        Complex, shape (..., h, w).
    """
    quadrature = (intensity[..., 1, :, :] - intensity[..., 3, :, :]) / (4 * reference)
    return torch.complex(_four_steps(intensity, reference), quadrature)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("pseudo-negative", _halves, 2, (0,), _amplitude),
        Scheme("kernel-bias", _biased, 1, (0,), _amplitude),
        Scheme("reference", _whole, 1, (1,), _beside_reference),
        Scheme("homodyne", _whole, 1, (1, -1), _balanced),
        Scheme("phase-shifting", _whole, 1, (1, 1j, -1, -1j), _four_steps),
        Scheme("incoherent", _root_halves, 2, (0,), _intensity, coherent=False),
    )
}
