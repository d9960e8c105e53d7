"""Activation functions, value by value; softmax along one axis.

Axis letters: B batch, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return x.relu()


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return x.clamp(0, 6)


def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(x, beta) from zero on, min(alpha x, beta) below."""
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


def elu(x: Tensor, alpha: float) -> Tensor:
    """Give x above zero, alpha (e^x - 1) below."""
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Multiply x by the share of a normal distribution below it, exactly or by one of two approximations."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """Give x from zero on, alpha x below."""
    return torch.where(x >= 0, x, alpha * x)


def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha x + beta."""
    return alpha * x + beta


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Give x above zero, alpha x below, with one alpha a channel; x of shape (B, C, ...), alpha (C,)."""
    return torch.where(x > 0, x, _by_channel(alpha, x) * x)


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha tanh(beta x)."""
    return alpha * torch.tanh(beta * x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return x.sigmoid()


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha x + beta, bounded to 0..1."""
    return (alpha * x + beta).clamp(0, 1)


def silu(x: Tensor) -> Tensor:
    """X sigmoid(x)."""
    return F.silu(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), without overflow."""
    return torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0)


def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Alpha log(1 + e^(beta x)), with one alpha and beta a channel; x (B, C, ...), the others (C,)."""
    return _by_channel(alpha, x) * softplus(_by_channel(beta, x) * x)


def softsign(x: Tensor) -> Tensor:
    """X / (1 + |x|)."""
    return x / (1 + x.abs())


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """Give x where it is at least alpha, else 0."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Divide e^x by its sum along an axis."""
    return x.softmax(axis)


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (x.ndim - 2)))
