"""The deploy form of the path ensemble: what ``fused()`` of ``path_ensemble`` is made of.

Axis letters: B batch, C channels, H height, W width, N tokens, M some of them, D width of a token, P paths,
K classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T) v; q carries the scale.

    Args:
        q: (B, M, D).
        k: (B, N, D).
        v: (B, N, D).
        heads: Divides D.

    Returns:
        (B, M, D).
    """
    q, k, v = (t.reshape(-1, t.shape[1], heads, t.shape[2] // heads).transpose(1, 2) for t in (q, k, v))
    mixed = (q @ k.mT).softmax(dim=-1) @ v
    return mixed.transpose(1, 2).reshape(-1, mixed.shape[2], heads * mixed.shape[3])


def weighted(found: list[Tensor], scales: Tensor, paths: tuple[int, ...]) -> Tensor:
    """Sum the class tokens of the kept paths, in order, each by its scale.

    Args:
        found: All paths, (B, N, D) each.
        scales: (P, D).
        paths: Which to keep.

    Returns:
        (B, D).
    """
    first, *others = paths
    total = found[first][:, 0] * scales[first]
    for i in others:
        total = total + found[i][:, 0] * scales[i]
    return total


class FusedAttention(nn.Module):
    """Attention of some tokens to all tokens; q carries the scale."""

    def __init__(self, q: nn.Linear, kv: nn.Linear, proj: nn.Linear, heads: int) -> None:
        super().__init__()
        self.q, self.kv, self.proj, self.heads = q, kv, proj, heads

    def forward(self, some: Tensor, x: Tensor) -> Tensor:
        """(B, M, D) and (B, N, D) to (B, M, D)."""
        k, v = self.kv(x).chunk(2, dim=-1)
        return self.proj(attend(self.q(some), k, v, self.heads))


class FusedBlock(nn.Module):
    """The two paths of one layer, for all tokens or for some."""

    def __init__(self, attn: FusedAttention, norm1: nn.Module, norm2: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn, self.norm1, self.norm2, self.mlp = attn, norm1, norm2, mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape, as a vision transformer without an ensemble runs it."""
        x = x + self.mix(x, x.shape[1])
        return x + self.feed(x)

    def mix(self, x: Tensor, tokens: int) -> Tensor:
        """(B, N, D) to the first path of the first ``tokens`` tokens, (B, M, D)."""
        normed = self.norm1(x)
        return self.attn(normed[:, :tokens], normed)

    def feed(self, x: Tensor) -> Tensor:
        """(B, M, D) to the second path, of the same shape."""
        return self.mlp(self.norm2(x))


class FusedPathEnsemble(nn.Module):
    """The last needed layer looks at the class token only."""

    class_token: Tensor
    positions: Tensor

    def __init__(
        self,
        patches: nn.Conv2d,
        *,
        class_token: Tensor,
        positions: Tensor,
        blocks: Iterable[FusedBlock],
        scales: Tensor,
        paths: tuple[int, ...],
        norm: nn.Module,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.paths = paths
        self.patches = patches
        self.register_buffer("class_token", class_token)
        self.register_buffer("positions", positions)
        self.blocks = nn.ModuleList(blocks)
        self.scales = nn.Parameter(scales)
        self.norm, self.head = norm, head

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        patches = self.patches(x).flatten(2).mT + self.positions
        stream = torch.cat((self.class_token.expand(patches.shape[0], -1, -1), patches), dim=1)
        found = [stream]
        for i, block in enumerate(self.blocks, start=1):
            assert isinstance(block, FusedBlock)
            tokens = 1 if i == len(self.blocks) else stream.shape[1]
            found.append(block.mix(stream, tokens))
            stream = stream[:, :tokens] + found[-1]
            if 2 * i <= self.paths[-1]:
                found.append(block.feed(stream))
                stream = stream + found[-1]
        return self.head(self.norm(weighted(found, self.scales, self.paths)))
