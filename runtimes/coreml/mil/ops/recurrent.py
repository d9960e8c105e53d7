"""Recurrent layers, step by step.

Axis letters: S steps, B batch, I inputs, H hidden size, D directions. ``reverse`` goes through the steps
backwards and gives its results in that order; of both directions together, each result stands at the step
it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
}


def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """Run h = f(W x + R h + b) over x (S, B, I); weights (H, I) and (H, H).

    Returns:
        All (S, B, H) or the last (1, B, H) state, and the last one (B, H).
    """
    act, h = _activation(activation), initial_h
    states: list[Tensor] = []
    for step in _in_order(x, direction):
        h = act(_affine(step, weight_ih, bias) + h @ weight_hh.T)
        states.append(h)
    return _sequence(states, whole=output_sequence), h


def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a gated unit over x (S, B, I); weights (3 H, I) and (3 H, H) in the order reset, output, update.

        o = f(W_o x + b_i + R_o (r h) + b)       or, with ``reset_after``,   f(W_o x + b_i + r (R_o h + b))
        h = (1 - z) o + z h

    Returns:
        All (S, B, H) or the last (1, B, H) state, and the last one (B, H).
    """
    gate, act, h = _activation(recurrent_activation), _activation(activation), initial_h
    size = initial_h.shape[-1]
    inner_reset, inner_out, inner_update = _parts(weight_hh.T, size)
    zero = torch.zeros(3 * size)
    bias_reset, bias_out, bias_update = _parts(zero if bias is None else bias, size)
    states: list[Tensor] = []
    for step in _in_order(x, direction):
        to_reset, to_out, to_update = _parts(_affine(step, weight_ih, input_bias), size)
        r = gate(to_reset + h @ inner_reset + bias_reset)
        z = gate(to_update + h @ inner_update + bias_update)
        inner = r * (h @ inner_out + bias_out) if reset_after else (r * h) @ inner_out + bias_out
        h = (1 - z) * act(to_out + inner) + z * h
        states.append(h)
    return _sequence(states, whole=output_sequence), h


def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a long short-term memory over x (S, B, I).

    Weights are (4 H, I) and (4 H, H), in the order input, forget, output, cell.

    Returns:
        All (S, B, D H) or the last (1, B, D H) state, the last one (B, D H), and the last memory (B, D H).
    """
    acts = (_activation(recurrent_activation), _activation(cell_activation), _activation(activation))
    forward = (weight_ih, weight_hh, bias, peephole)
    if direction != "bidirectional":
        return _lstm(x, initial_h, initial_c, forward, acts, direction, clip, whole=output_sequence)
    if weight_ih_back is None or weight_hh_back is None:
        message = "expected weights of both directions, got those of one"
        raise ValueError(message)
    backward = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    size = weight_hh.shape[1]
    (h, h_back), (c, c_back) = _parts(initial_h, size), _parts(initial_c, size)
    ahead = _lstm(x, h, c, forward, acts, "forward", clip, whole=output_sequence)
    behind = _lstm(x, h_back, c_back, backward, acts, "reverse", clip, whole=output_sequence)
    behind = (behind[0].flip(0), *behind[1:])
    both = [torch.cat(pair, -1) for pair in zip(ahead, behind, strict=True)]
    return both[0], both[1], both[2]


_Weights = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
_Acts = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weights: _Weights,
    acts: _Acts,
    direction: str,
    clip: float | None,
    *,
    whole: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    weight_ih, weight_hh, bias, peephole = weights
    gate, cell, act = acts
    size = weight_hh.shape[1]
    peep_i, peep_f, peep_o = _parts(torch.zeros(3 * size) if peephole is None else peephole, size)
    states: list[Tensor] = []
    for step in _in_order(x, direction):
        to_i, to_f, to_o, to_cell = _parts(_affine(step, weight_ih, bias) + h @ weight_hh.T, size)
        c = gate(to_f + peep_f * c) * c + gate(to_i + peep_i * c) * cell(to_cell)
        c = c if clip is None else c.clamp(-clip, clip)
        h = gate(to_o + peep_o * c) * act(c)
        states.append(h)
    return _sequence(states, whole=whole), h, c


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name.lower() not in _ACTIVATIONS:
        message = f"expected an activation of {', '.join(_ACTIVATIONS)}, got {name!r}"
        raise ValueError(message)
    return _ACTIVATIONS[name.lower()]


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.T if bias is None else x @ weight.T + bias


def _parts(x: Tensor, size: int) -> list[Tensor]:
    return [x.narrow(-1, start, size) for start in range(0, x.shape[-1], size)]


def _in_order(x: Tensor, direction: str) -> list[Tensor]:
    steps = list(x)
    return steps[::-1] if direction == "reverse" else steps


def _sequence(states: list[Tensor], *, whole: bool) -> Tensor:
    return torch.stack(states) if whole else states[-1].unsqueeze(0)
