r"""Scales of batch norms move into the kernels before them, and the network keeps its shape and its answers.

A mask shows kernels, and kernels that share a mask share its light: what is folded into them decides who gets
how much. A norm after a convolution, in evaluation mode, is y -> g (y - mean) + beta, with the scale
g = gamma / sqrt(var + eps). With

    W' = g W,   b' = g b,   mean' = g mean,   gamma' = sqrt(var + eps)

it only shifts, as the bias of a folded convolution does; no parameter is added and none goes away.

Axes: O output channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


@torch.no_grad()
def absorb_norms(module: nn.Module, x: Tensor) -> int:
    """Absorb the norms that directly follow a convolution.

    Args:
        module: In evaluation mode; changed in place.
        x: One input, which shows what follows what.

    Returns:
        How many norms were absorbed.
    """
    pairs = _pairs(module, x)
    for conv, norm in pairs:
        _absorb(conv, norm)
    return len(pairs)


def _pairs(module: nn.Module, x: Tensor) -> list[Pair]:
    """Run once and note which norm is given just what a convolution gave; each module counts once."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    found: list[Pair] = []

    def seen(layer: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            made[id(answer)] = (layer, answer)  # the tensor is kept, so that its id stays its own
        elif isinstance(layer, nn.BatchNorm2d) and id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], layer))

    layers = cast("Iterable[nn.Module]", module.modules())
    wanted = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(seen) for layer in wanted]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in found if _only(pair, found) and pair[1].affine and pair[1].track_running_stats]


def _only(pair: Pair, pairs: list[Pair]) -> bool:
    """Say whether neither module stands in a second pair: a shared one has no one scale."""
    return sum(conv is pair[0] or norm is pair[1] for conv, norm in pairs) == 1


def _absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    variance, mean = norm.running_var, norm.running_mean
    assert variance is not None
    assert mean is not None
    spread = torch.sqrt(variance + norm.eps)
    scale = norm.weight / spread
    conv.weight.mul_(scale[:, None, None, None])
    if conv.bias is not None:
        conv.bias.mul_(scale)
    mean.mul_(scale)
    norm.weight.copy_(spread)
