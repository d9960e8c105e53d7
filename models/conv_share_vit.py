"""ConvShareViT: a vision transformer for free-space optical accelerators (arXiv 2504.11517).

A token stays a picture: X is (B, T, M, h, w), T patches of M maps of h x w pixels. Every linear layer over
tokens becomes a convolution whose kernels all tokens share, which an optical 4f processor applies to all
tokens of all pictures in one pass::

    Y[b, t] = K * X[b, t]      the same K for every t; on tokens as channels: depth-wise with equal kernels

``valid``: K covers the whole token, so each kernel gives one number, and D kernels give the D = M h w numbers
of the next token. That is a linear layer over flattened tokens: W[d, (m, i, j)] = K[d, m, i, j].
``same``: K is small and keeps the size: a linear layer of few, shared weights that sees a neighbourhood only.

A block, with P, Q, K, V, W1 and W2 such convolutions::

    X' = LN(X),   X = X + P softmax((Q X') (K X')^T / sqrt(d)) V X'
    X = X + W2 GELU(W1 LN(X))

The products of queries, keys and values depend on the data; they are no convolutions with fixed kernels.

No public code exists, and the sizes of the paper's experiments could not be obtained: depth, width, heads and
maps are ours, and nothing was compared with the authors' results.

Axis letters: B batch, C channels of the picture, H height, W width, T tokens, M maps of a token, h and w
their height and width, D = M h w, d numbers of one head, K classes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .fuse import Kernel
from .fuse_modules import conv_like, linear_of, scale_conv
from .image_sets import FASHION_LABELS, FASHION_MNIST
from .registry import register
from .spec import ModelSpec, TensorSpec


@dataclass(frozen=True)
class ConvShareConfig:
    """Sizes of one member of the family."""

    size: int
    """Pixels per side of the picture."""
    patch: int
    """Pixels per side of a token."""
    maps: int
    heads: int
    """Divides ``maps``: a head takes whole maps."""
    depth: int
    padding: Literal["valid", "same"]
    kernel: int = 3
    """Of ``same`` convolutions; odd."""
    ratio: int = 2
    """Maps inside the MLP per map outside."""
    channels: int = 1
    classes: int = 10

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return (self.size // self.patch) ** 2


class SharedConv(nn.Module):
    """One convolution for every token; its output is again ``maps`` maps of the size of the input's."""

    def __init__(self, config: ConvShareConfig, inputs: int, maps: int) -> None:
        super().__init__()
        side = config.patch
        self.shape = maps, side, side
        if config.padding == "valid":
            self.conv = nn.Conv2d(inputs, maps * side * side, side)
        else:
            self.conv = nn.Conv2d(inputs, maps, config.kernel, padding=config.kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M, h, w) to (B, T, M', h, w)."""
        return self.conv(x.flatten(0, 1)).reshape(-1, x.shape[1], *self.shape)

    def on_channels(self, tokens: int) -> nn.Conv2d:
        """Write it depth-wise, with all maps of all tokens as channels and every token a group. Exact."""
        weight, bias = (torch.cat([p.detach()] * tokens) for p in _values(self.conv))
        return conv_like(self.conv, Kernel(weight, bias, tokens))

    def as_linear(self) -> nn.Linear:
        """Write it as a linear layer over flattened tokens, by what it answers to every unit token. Exact.

        For ``valid`` these are the kernels themselves, for ``same`` a banded matrix of few different entries.
        """
        weight, bias = (p.detach().double() for p in _values(self.conv))
        _, height, width = self.shape
        inputs = self.conv.in_channels
        units = torch.eye(inputs * height * width, dtype=torch.float64).view(-1, inputs, height, width)
        answers = nn.functional.conv2d(units, weight, padding=self.conv.padding).flatten(1)
        spread = bias.repeat_interleave(answers.shape[1] // len(bias))
        dtype = self.conv.weight.dtype
        return linear_of(answers.T.contiguous().to(dtype), spread.to(dtype))


def _values(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None
    return conv.weight, conv.bias


def attend(qkv: Tensor, heads: int, scale: float = 1) -> Tensor:
    """softmax(scale q k^T) v between tokens.

    Args:
        qkv: (B, T, 3 M, h, w).
        heads: Divides M.
        scale: 1 where it is in the weights.

    Returns:
        (B, T, M, h, w).
    """
    _, tokens, maps, height, width = qkv.shape
    own = maps // 3 // heads * height * width
    q, k, v = qkv.reshape(-1, tokens, 3, heads, own).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = (q @ k.mT if scale == 1 else (q * scale) @ k.mT).softmax(dim=-1) @ v
    return mixed.transpose(1, 2).reshape(-1, tokens, maps // 3, height, width)


class Attention(nn.Module):
    """Multi-head attention between tokens whose layers are shared convolutions."""

    def __init__(self, config: ConvShareConfig) -> None:
        super().__init__()
        maps = config.maps
        self.heads = config.heads
        self.scale = (maps // config.heads * config.patch**2) ** -0.5
        self.qkv = SharedConv(config, maps, 3 * maps)
        self.proj = SharedConv(config, maps, maps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M, h, w) to the same shape."""
        return self.proj(attend(self.qkv(x), self.heads, self.scale))

    def fused(self) -> FusedAttention:
        """Fold the scale into the kernels of the queries."""
        own = deepcopy(self)
        conv = own.qkv.conv
        scale = torch.ones(conv.out_channels, dtype=torch.float64)
        scale[: len(scale) // 3] = own.scale
        own.qkv.conv = scale_conv(conv, scale)
        return FusedAttention(own.qkv, own.proj, own.heads).eval()


class FusedAttention(nn.Module):
    """Attention whose scale is in the weights."""

    def __init__(self, qkv: SharedConv, proj: SharedConv, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = qkv, proj, heads

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M, h, w) to the same shape."""
        return self.proj(attend(self.qkv(x), self.heads))


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm over the whole token and with a residual."""

    def __init__(self, config: ConvShareConfig) -> None:
        super().__init__()
        token = [config.maps, config.patch, config.patch]
        self.norm1 = nn.LayerNorm(token)
        self.attn: nn.Module = Attention(config)
        self.norm2 = nn.LayerNorm(token)
        self.mlp = nn.Sequential(
            SharedConv(config, config.maps, config.ratio * config.maps),
            nn.GELU(),
            SharedConv(config, config.ratio * config.maps, config.maps),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M, h, w) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def fused(self) -> Block:
        """Fold the attention."""
        own = deepcopy(self)
        assert isinstance(own.attn, Attention)
        own.attn = own.attn.fused()
        return own.eval()


class ConvShareVit(nn.Module):
    """A network of the family."""

    def __init__(self, config: ConvShareConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.embed = SharedConv(config, config.channels, config.maps)
        token = [config.maps, config.patch, config.patch]
        self.positions = nn.Parameter(torch.empty(config.tokens, *token))
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(token)
        self.head = nn.Conv2d(config.maps, config.classes, config.patch)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        tokens = self.embed(cut(x, self.patch)) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1)).flatten(1)

    def fused(self) -> ConvShareVit:
        """Fold every block."""
        own = deepcopy(self)
        own.blocks = nn.Sequential(*(block.fused() for block in own.blocks if isinstance(block, Block)))
        return own.eval()


def cut(x: Tensor, patch: int) -> Tensor:
    """Cut (B, C, H, W) pixels into (B, T, C, h, w) tokens, row by row."""
    _, channels, height, width = x.shape
    rows, columns = height // patch, width // patch
    parts = x.reshape(-1, channels, rows, patch, columns, patch).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, rows * columns, channels, patch, patch)


NANO = ConvShareConfig(size=28, patch=4, maps=6, heads=6, depth=5, padding="valid")
SAME_NANO = ConvShareConfig(size=28, patch=7, maps=16, heads=4, depth=4, padding="same")


def _nano(name: str, config: ConvShareConfig, weights: str | None = None) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(ConvShareVit, config),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper="the layers of ConvShareViT, arXiv 2504.11517, at a size of our own",
        checked="not checked against the authors: no public code, no sizes; equal to linear layers"
        + ("; scored on Fashion-MNIST" if weights else ""),
        weights=weights,
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def convshare_vit_nano() -> ModelSpec:
    """Valid padding: attention over whole tokens, for 28x28 grey images."""
    return _nano("convshare_vit_nano", NANO, weights="convshare_vit_nano.safetensors")


@register
def convshare_vit_same_nano() -> ModelSpec:
    """Same padding: small kernels, which behave like a convolutional network, for 28x28 grey images."""
    return _nano("convshare_vit_same_nano", SAME_NANO)
