"""The optimizers of the small networks.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum M of a matrix by a
matrix of the same singular vectors whose singular values are all near one, so that every direction moves
alike, with (a, b, c) = (3.4445, -4.7750, 2.0315)::

    X <- M / |M|,   five times:  A = X X^T,  X <- a X + (b A + c A^2) X
    W <- (1 - lr decay) W - lr 0.2 sqrt(max(rows, columns)) X

The factor gives a step the size of AdamW's, so that one learning rate serves both (arXiv 2502.16982). The
kernels of a convolution are a matrix of outputs by inputs and positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from nano_recipe import Recipe
from torch import Tensor, nn

QUINTIC = 3.4445, -4.7750, 2.0315
SMALLEST_SIDE = 10
"""Matrices with a shorter side, such as depth-wise kernels and classifiers, are left to AdamW."""


class Muon(torch.optim.Optimizer):
    """Momentum with its singular values levelled."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, *, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every parameter along its levelled momentum."""
        for group in self.param_groups:
            for p in group["params"]:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"]).flatten(1)
                factor = 0.2 * math.sqrt(max(update.shape))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(levelled(update).reshape(p.shape), alpha=-group["lr"] * factor)


def levelled(matrix: Tensor) -> Tensor:
    """Bring all singular values of (rows, columns) near one."""
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def optimizers_for(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Give the recipe's optimizers; biases and norms are not decayed."""
    large = _matrices(model) if recipe.optimizer == "Muon" else []
    taken = {id(p) for p in large}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.peak_lr)]
    if large:
        found.append(Muon(large, recipe.peak_lr, weight_decay=recipe.weight_decay))
    return found


def _matrices(model: nn.Module) -> list[Tensor]:
    """Find the weights of layers that are matrices of some size; position tables are none."""
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return [w for w in weights if min(w.flatten(1).shape) > SMALLEST_SIDE]
