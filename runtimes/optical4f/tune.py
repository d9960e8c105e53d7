"""Noise-aware fine-tuning: a few steps of training with the device in the loop.

The network computes in simulated light (``in_light``) and is drawn to the answers that it gave before, in
float: the loss is the divergence of its class probabilities from those of the float network at temperature
t, times t^2 (Hinton et al., 1503.02531) [K]. So it needs samples but no labels, and what the float network
knows is what it can recover. Batch norms keep their statistics, and their scales move into the kernels first,
as they will on the device (``absorb``). The device is set up on the same samples as the compiled network will
be, and again every few steps; in between its ranges follow the kernels, which grow and shrink under it.

Axes: B batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, softmax

from ...errors import RunError
from .absorb import absorb_norms
from .in_light import Light, in_light

SET_UP_EVERY = 10
"""Steps after which the device is set up anew."""


@dataclass(frozen=True)
class TuneRecipe:
    """Everything that decides the tuned weights, besides the samples."""

    steps: int = 100
    learning_rate: float = 3e-4
    """Of Adam at the start; it falls to zero as half a cosine."""
    temperature: float = 2.0
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0


def fine_tune(
    module: nn.Module,
    batches: Iterable[Tensor],
    light: Light,
    recipe: TuneRecipe,
    *,
    samples: Tensor,
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> nn.Module:
    """Train a copy of a network for a device.

    Args:
        module: Answers with logits (B, K) to one input.
        batches: One input (B, ...) for each step; when they end, the training ends.
        light: The device.
        recipe: How to train.
        samples: Inputs to set the device up on (B, ...).
        tell: Is called after every step with its number, from 1, and its loss.

    Returns:
        The tuned copy, in evaluation mode, with the parameters of the original's names.

    Raises:
        UsageError: If light can compute nothing of the network.
        RunError: If the loss is no number.
    """
    teacher, student = deepcopy(module).eval(), deepcopy(module).eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=recipe.learning_rate)
    steps = iter(batches)
    sample = next(steps, None)
    if sample is None:
        return student
    absorb_norms(student, sample)
    generator = torch.Generator().manual_seed(recipe.seed)
    with in_light(student, light, samples, generator) as device:
        for step, x in zip(range(recipe.steps), chain((sample,), steps), strict=False):
            if step and step % SET_UP_EVERY == 0:
                device.set_up(samples)
            elif step:
                device.follow()
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            loss = _distance(student(x), _answers(teacher, x), recipe.temperature)
            if not math.isfinite(loss.item()):
                message = (
                    f"expected a finite loss, got {loss.item()} in step {step + 1}; lower the learning rate"
                )
                raise RunError(message)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
            optimizer.step()
            tell(step + 1, loss.item())
    return student


@torch.no_grad()
def _answers(teacher: nn.Module, x: Tensor) -> Tensor:
    return teacher(x)


def _distance(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    return temperature**2 * kl_div(
        log_softmax(logits / temperature, -1), softmax(wanted / temperature, -1), reduction="batchmean"
    )
