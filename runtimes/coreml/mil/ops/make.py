"""Tensors made of shapes and numbers, at random ones too.

What is drawn at random is not what Core ML draws: its generators are not documented. A seed gives the same
values at every run, as does no seed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..context import Context
from ..signature import Ints
from ..values import MAX_ELEMENTS
from .shape import within


def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    """Repeat one value."""
    return (torch.zeros(1) if value is None else value).reshape(1).expand(within(shape)).clone()


def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """Repeat one value in the shape of another tensor."""
    return fill(tuple(ref_tensor.shape), value)


def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """Count from start in steps, up to but without the end."""
    first, last, by = start.item(), end.item(), step.item()
    count = max(0, math.ceil((last - first) / by)) if by else MAX_ELEMENTS + 1
    return first + torch.arange(within((count,))[0], dtype=start.dtype) * by


def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """Mark positions in a new axis; a position outside marks nothing."""
    within((*indices.shape, one_hot_vector_size))
    marked = indices.unsqueeze(-1) == torch.arange(one_hot_vector_size)
    on = torch.tensor(1) if on_value is None else on_value.reshape(())
    off = torch.tensor(0) if off_value is None else off_value.reshape(())
    return torch.where(marked, on, off).movedim(-1, axis)


def random_uniform(run: Context, shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Tensor:
    """Draw evenly from low up to high."""
    return low + (high - low) * torch.rand(within(shape), generator=_chance(run, seed))


def random_normal(
    run: Context, shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1
) -> Tensor:
    """Draw from a normal distribution."""
    return mean + stddev * torch.randn(within(shape), generator=_chance(run, seed))


def random_bernoulli(run: Context, shape: Ints, prob: float = 0.5, seed: int = -1) -> Tensor:
    """Draw 1 with a probability, else 0."""
    return (torch.rand(within(shape), generator=_chance(run, seed)) < prob).float()


def random_categorical(
    run: Context, x: Tensor, mode: str = "logits", size: int = 1, seed: int = -1
) -> Tensor:
    """Draw classes by the probabilities (or their logarithms) of the last axis."""
    odds = x if mode == "probs" else x.softmax(-1)
    drawn = torch.multinomial(odds.reshape(-1, x.shape[-1]), size, True, generator=_chance(run, seed))
    return drawn.reshape((*x.shape[:-1], size))


def _chance(run: Context, seed: int) -> torch.Generator:
    return run.chance if seed == -1 else torch.Generator().manual_seed(seed)
