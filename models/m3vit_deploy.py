"""The deploy form of M3ViT's experts: computed only for the tokens that select them.

Axis letters: B batch, C width of a token, N tokens, E experts, K experts of a token, F width inside an
expert, M tiles, T slots of a tile.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from .routing import gather_back, take_groups, take_rows, tile_up


class ExpertLayer(NamedTuple):
    """One linear layer of every expert."""

    weight: Tensor
    """(E, out, in)."""
    bias: Tensor
    """(E, out)."""


def select_experts(x: Tensor, gates: Tensor, task: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Choose experts for tokens.

    Args:
        x: (B, N, C).
        gates: (tasks, C, E).
        task: (B,).
        top_k: K.

    Returns:
        Weights and numbers of the experts, both (B, N, K).
    """
    scores = (x @ take_groups(gates, task)).softmax(dim=-1)
    best, chosen = scores.topk(top_k, dim=-1)
    return best, chosen


class TiledExperts(nn.Module):
    """Every tile holds tokens of one expert, and takes this expert's weights."""

    gates: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, gates: Tensor, first: ExpertLayer, second: ExpertLayer, top_k: int) -> None:
        super().__init__()
        self.top_k, self.count = top_k, len(first.weight)
        self.register_buffer("gates", gates.detach().clone())
        for i, layer in enumerate((first, second), start=1):
            self.register_buffer(f"w{i}", layer.weight.detach().transpose(1, 2).contiguous())
            self.register_buffer(f"b{i}", layer.bias.detach().unsqueeze(1).clone())

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) and (B,) to (B, N, C)."""
        best, chosen = select_experts(x, self.gates, task, self.top_k)
        tiles = tile_up(chosen, self.count, tile_for_experts(x.shape[1]))
        w1, b1, w2, b2 = (take_groups(t, tiles.group) for t in (self.w1, self.b1, self.w2, self.b2))
        hidden = F.gelu(take_rows(x, tiles.token) @ w1 + b1)  # (B, M, T, F)
        return gather_back(hidden @ w2 + b2, tiles, best)


def tile_for_experts(tokens: int) -> int:
    """Choose how many slots a tile has: about an eighth of the tokens, for an expert's weights are large."""
    return max(4, 2 ** (tokens // 8).bit_length() // 2)
