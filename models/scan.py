"""The selective scan of state-space models (Mamba, arXiv 2312.00752): one form that every engine runs right.

With a decay a < 0, for every channel i and state n::

    h_t[n, i] = exp(dt_t[i] a[n, i]) h_{t-1}[n, i] + u_t[i] b_t[n],     h_0 = 0,     u = dt x
    y_t[i]    = sum over n of c_t[n] h_t[n, i]

Exported, it is one ONNX ``Scan`` over the sequence, whose body has seven element-wise steps. What the form is
chosen for:

* Decay and drive are computed inside the body, from slices that are N times smaller than a state, and the sum
  over states too: nothing of size L N I ever reaches memory, and the state stays in the cache. Writing decay,
  drive and states out takes twice the time in ONNX Runtime.
* Channels are the last axis, so that every broadcast runs along a long row.
* In the body the state is the first factor (``h * decay``): with it as the second, OpenVINO writes over what
  it still reads, and answers wrongly without a word.
* The body has no product of matrices and no reshape: those ask for the batch size, and torch cannot export a
  body that reads a free size. Weights may be read from inside.

Outside an export the recurrence runs step by step in place, with its gradient written out. Only the states
are kept for all steps: a gradient of all steps at once takes more than twice the time, for want of cache::

    g_t = c_t dy_t + decay_{t+1} g_{t+1}                   the gradient by h_t, everything after it included
    du_t = sum over n of g_t b_t,     db_t = sum over i of g_t u_t,     dc_t = sum over i of h_t dy_t
    e_t = g_t h_{t-1} decay_t,        ddt_t = sum over n of e_t a,      da = sum over t of e_t dt_t

Axis letters: L steps, P any leading axes (batch, paths, directions, heads), I channels, N states per channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import Function


def selective_scan(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Run the recurrence along the first axis.

    Args:
        u: The driven input, step size times input, (L, P, I).
        dt: Step sizes, above zero, (L, P, I).
        a: Decay rates, below zero, (N, I), or with leading axes that broadcast over P.
        b: How the input enters each state, (L, P, N).
        c: How each state leaves, (L, P, N).

    Returns:
        (L, P, I); a skip of the input is the caller's.
    """
    if u.is_meta:  # no values, so no steps
        return torch.empty_like(u)
    u, dt = (t.unsqueeze(-2).contiguous() for t in (u, dt))  # (L, P, 1, I)
    b, c = (t.unsqueeze(-1).contiguous() for t in (b, c))  # (L, P, N, 1)
    if torch.compiler.is_exporting():
        return _as_operator(u, dt, a, b, c)
    run = cast("Callable[..., Tensor]", _Steps.apply)
    return run(u, dt, a, b, c, torch.is_grad_enabled())


def softplus(x: Tensor) -> Tensor:
    """Give log(1 + e^x) of any shape, from operators that engines have in vectorised form.

    ONNX Runtime computes ``Softplus`` number by number, three times slower than this. OpenVINO is 2e-6 off,
    1.6 % of a step of 5e-5, also where it reads log(1 + e^x). So with e = exp(-|x|) and s = e / (2 + e)::

        log(1 + e^x) = max(x, 0) + log(1 + e),      log(1 + e) = 2 artanh(s) = 2 s P(s^2)

    As s is a third at most, a short polynomial P gives every digit, of small answers too.
    """
    e = torch.exp(-x.abs())
    s = e / (e + 2)
    square = s * s
    first, *others = _twice_artanh(x.dtype == torch.float64)
    series: Tensor = square * first + others[0]
    for coefficient in others[1:]:
        series = series * square + coefficient
    return x.relu() + s * series


@cache
def _twice_artanh(double: bool) -> tuple[float, ...]:
    """Give 2 artanh(s) / s by powers of s^2 up to 1/9, highest first: its series, or five terms."""
    if double:
        return tuple(2 / (2 * k + 1) for k in range(16, -1, -1))

    def exact(square: np.ndarray) -> np.ndarray:
        return 2 * np.arctanh(np.sqrt(square)) / np.sqrt(square)

    found = np.polynomial.Chebyshev.interpolate(exact, 4, domain=[0, 1 / 9])
    return tuple(float(c) for c in reversed(found.convert(kind=np.polynomial.Polynomial).coef))


def initialise_steps(linear: nn.Linear, smallest: float = 1e-3, largest: float = 0.1) -> None:
    """Spread the initial step sizes evenly in their logarithm: the bias is the inverse of softplus."""
    nn.init.uniform_(linear.weight, -(linear.in_features**-0.5), linear.in_features**-0.5)
    span = math.log(largest / smallest)
    steps = smallest * torch.exp(torch.rand(linear.out_features) * span)
    with torch.no_grad():
        linear.bias.copy_(steps + torch.log(-torch.expm1(-steps)))


def _as_operator(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    from torch._higher_order_ops.scan import scan

    def step(h: Tensor, now: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        u, dt, b, c = now
        h = h * torch.exp(dt * a) + u * b
        return h, (h * c).sum(-2)

    # Detached, since an exported graph is only run: torch would trace a backward scan of each, for nothing.
    u, dt, a, b, c = (t.detach() for t in (u, dt, a, b, c))
    # A product of slices has the shape and the strides that the state will have.
    _, y = scan(step, torch.zeros_like(u[0] * b[0]), (u, dt, b, c))
    return y


class _Steps(Function):
    """The scan outside an export; u and dt (L, P, 1, I), a (N, I) or more, b and c (L, P, N, 1)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        u, dt, a, b, c, learns = inputs
        h = torch.zeros_like(u[0] * b[0])
        decay = torch.empty_like(h)
        states = h.new_empty(len(u), *h.shape) if learns else None
        y = u.new_empty(*u.shape[:-2], u.shape[-1])
        for t, (now, step, enter, leave, out) in enumerate(zip(u, dt, b, c, y, strict=True)):
            torch.mul(step, a, out=decay)
            h.mul_(decay.exp_()).addcmul_(now, enter)
            torch.sum(torch.mul(h, leave, out=decay), -2, out=out)
            if states is not None:
                states[t] = h
        if states is not None:
            ctx.save_for_backward(u, dt, a, b, c, states)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        u, dt, a, b, c, states = ctx.saved_tensors
        dy = grads[0].unsqueeze(-2)  # (L, P, 1, I)
        by_u, by_dt, by_a, by_b, by_c = (torch.zeros_like(t) for t in (u, dt, a, b, c))
        g, part = torch.zeros_like(states[0]), torch.empty_like(states[0])
        for t in range(len(u) - 1, -1, -1):
            g.addcmul_(c[t], dy[t])
            torch.sum(torch.mul(g, b[t], out=part), -2, keepdim=True, out=by_u[t])
            torch.sum(torch.mul(g, u[t], out=part), -1, keepdim=True, out=by_b[t])
            torch.sum(torch.mul(states[t], dy[t], out=part), -1, keepdim=True, out=by_c[t])
            g.mul_(torch.mul(dt[t], a, out=part).exp_())
            if t > 0:
                torch.mul(g, states[t - 1], out=part)
                by_a += (part * dt[t]).sum_to_size(a.shape)
                torch.sum(part.mul_(a), -2, keepdim=True, out=by_dt[t])
        return by_u, by_dt, by_a, by_b, by_c, None
