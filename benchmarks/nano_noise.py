"""Learn to tell the noise in a noisy picture of a known class, as diffusion networks do.

A picture of Fashion-MNIST is brought to 16x16 pixels and its 2x2 neighbours become four channels, which
stands in for the latent image of an autoencoder. With beta_t linear from 1e-4 to 0.02 over T = 1000 steps
(DDPM, arXiv 2006.11239), alpha_t = 1 - beta_t and A_t the product of all alphas up to t::

    x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) e,      loss = |e' - e|^2 + 0.001 T KL(q(x_{t-1}), p(x_{t-1}))

The second half v of the answer is the variance of p between two bounds, log s^2 = v' log beta_t +
(1 - v') log B_t with v' = (v + 1) / 2 and B_t = beta_t (1 - A_{t-1}) / (1 - A_t); it learns by the KL,
through which e' does not (arXiv 2102.09672). At t = 0, where B is zero, it is that of t = 1.

Axis letters: B batch, H and W height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from nano_data import Images, read_fashion
from nano_tasks import Given, Scores, answers_of
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 1000
BETA = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
LEFT = torch.cumprod(1 - BETA, 0)
"""A_t, the share of the picture's variance that is left."""
DROPPED = 0.1
"""Share of the pictures whose class is withheld, so that the network also knows pictures of no class."""
SIDE = 16
VARIANCE_WEIGHT = 0.001 * STEPS
NO_CLASS = 10
TEST_SEED = 1


@dataclass(frozen=True)
class Noise:
    """Noise and variance of a latent image (B, 4, 8, 8)."""

    data: str = "Fashion-MNIST, all 60,000 training images"

    def read(self, source: Path, cache: Path) -> dict[str, Images]:
        """Read Fashion-MNIST."""
        return read_fashion(source)

    def given(self, pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Given:
        """Draw steps and noise; the target is both."""
        hidden = torch.rand(len(labels), generator=generator) < DROPPED
        return _drawn(latents(pixels), torch.where(hidden, NO_CLASS, labels), generator)

    def loss(self, answers: tuple[Tensor, ...], target: Tensor, smoothing: float) -> Tensor:
        """Compute the error of the noise and the divergence of the variance."""
        noise, v = answers[0].chunk(2, dim=1)
        right, t = target[:, :4], target[:, 4, 0, 0].long()
        error = (noise - right).square()
        return error.mean() + VARIANCE_WEIGHT * divergence(error.detach(), v, t).mean()

    @torch.no_grad()
    def scores(self, model: nn.Module, test: Images) -> Scores:
        """Compute the share of the noise's power that the answers leave, over all steps alike."""
        given = tested(test)
        parts = zip(*(t.split(500) for t in (*given.inputs, given.target)), strict=True)
        left = [
            (answers_of(model, tuple(inputs))[0][:, :4] - target[:, :4]).square().sum()
            for *inputs, target in parts
        ]
        return {f"noise_left_{len(test)}": float(sum(left) / given.target[:, :4].square().sum())}


def tested(test: Images) -> Given:
    """Give all test images with one drawn step and noise each, always the same."""
    return _drawn(latents(test.pixels), test.labels, torch.Generator().manual_seed(TEST_SEED))


def latents(pixels: Tensor) -> Tensor:
    """Turn uint8 (B, 1, 28, 28) into (B, 4, 8, 8) from -1 to 1."""
    small = F.interpolate(pixels.float(), (SIDE, SIDE), mode="area")
    return F.pixel_unshuffle(small / 127.5 - 1, 2)


def _drawn(latent: Tensor, labels: Tensor, generator: torch.Generator) -> Given:
    t = torch.randint(STEPS, (len(latent),), generator=generator)
    noise = torch.randn(latent.shape, generator=generator)
    left = LEFT[t].float().view(-1, 1, 1, 1)
    noisy = left.sqrt() * latent + (1 - left).sqrt() * noise
    step = t.float().view(-1, 1, 1, 1).expand(-1, 1, *latent.shape[2:])
    return Given((noisy, t.float(), labels), torch.cat([noise, step], dim=1))


def divergence(error: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """Compute KL(q, p) of every pixel, in nats.

    Args:
        error: (e' - e)^2, (B, 4, H, W).
        v: Where the variance lies between its bounds, -1 to 1, of the same shape.
        t: Steps, (B,).
    """
    before = torch.cat([torch.ones(1, dtype=LEFT.dtype), LEFT[:-1]])
    bound = BETA * (1 - before) / (1 - LEFT)
    bound[0] = bound[1]
    weight = BETA.square() / (
        (1 - BETA) * (1 - LEFT)
    )  # of the squared error in the squared distance of the means
    low, high, weight = (t.float().view(-1, 1, 1, 1) for t in (bound.log()[t], BETA.log()[t], weight[t]))
    share = (v + 1) / 2
    variance = share * high + (1 - share) * low
    return 0.5 * (variance - low + (low - variance).exp() - 1 + weight * error * (-variance).exp())
