"""SMT as its public code lays tokens out, (B, N, C) with a Transpose and a Reshape around each convolution.

The zoo's own training form keeps channels-last maps of four axes, which OpenVINO serves far worse when it is
exported as it stands. To be fair to the routes of other tools, they get this form, with the same weights.

Axis letters: B batch, N = H W positions, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fourfold.models.smt import Smt
from fourfold.models.smt_blocks import SAM_HEADS, Attention, Block, Mlp, Modulation


class TokenSmt(nn.Module):
    """The same network with the same parameters."""

    def __init__(self, smt: Smt) -> None:
        super().__init__()
        self.smt = smt

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        for stage in range(1, 5):
            embed = self.smt.get_submodule(f"patch_embed{stage}")
            x = embed.get_submodule("conv" if stage == 1 else "proj")(x)
            grid = x.shape[2:]
            x = embed.get_submodule("norm")(_tokens(x))
            for block in self.smt.get_submodule(f"block{stage}").children():
                x = _block(block, x, grid)
            x = self.smt.get_submodule(f"norm{stage}")(x)
            if stage < 4:
                x = _map(x, grid)
        return self.smt.head(x.mean(dim=1))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _map(x: Tensor, grid: torch.Size) -> Tensor:
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


def _block(block: Block, x: Tensor, grid: torch.Size) -> Tensor:
    mix = _modulation if isinstance(block.attn, Modulation) else _attention
    branch = mix(block.attn, block.norm1(x), grid)
    x = x + (branch if block.gamma_1 is None else block.gamma_1 * branch)
    branch = _mlp(block.mlp, block.norm2(x), grid)
    return x + (branch if block.gamma_2 is None else block.gamma_2 * branch)


def _mlp(mlp: Mlp, x: Tensor, grid: torch.Size) -> Tensor:
    a = mlp.fc1(x)
    return mlp.fc2(mlp.act(a + _tokens(mlp.dwconv.dwconv(_map(a, grid)))))


def _modulation(sam: Modulation, x: Tensor, grid: torch.Size) -> Tensor:
    batch, _, channels = x.shape
    heads = sam.s(x).reshape(batch, *grid, SAM_HEADS, channels // SAM_HEADS).permute(3, 0, 4, 1, 2)
    mixed = torch.stack([conv(heads[i]) for i, conv in enumerate(sam.scales())], dim=2)
    mixed = mixed.reshape(batch, channels, *grid)
    return sam.proj(_tokens(sam.proj1(sam.act(sam.bn(sam.proj0(mixed))))) * sam.v(x))


def _attention(attn: Attention, x: Tensor, grid: torch.Size) -> Tensor:
    batch, positions, channels = x.shape
    shape = (batch, positions, -1, attn.heads, channels // attn.heads)
    q = attn.q(x).reshape(shape)[:, :, 0].transpose(1, 2)
    k, v = attn.kv(x).reshape(shape).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) * attn.scale).softmax(dim=-1)
    v_tokens = v.transpose(1, 2).reshape(x.shape)
    mixed = (weights @ v).transpose(1, 2).reshape(x.shape)
    return attn.proj(mixed + _tokens(attn.local_conv(_map(v_tokens, grid))))
