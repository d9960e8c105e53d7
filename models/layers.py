"""Small pieces that several families share.

Axis letters: O output channels, I input channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def split_linear(linear: nn.Linear, sizes: tuple[int, ...]) -> nn.ModuleList:
    """Write a linear layer without bias as one per part of its output: nothing is copied apart. Exact."""
    made = nn.ModuleList()
    weights: tuple[Tensor, ...] = torch.split(linear.weight.detach(), list(sizes))
    for weight in weights:
        part = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        part.weight = nn.Parameter(weight.clone())
        made.append(part)
    return made
