"""NiNformer: A Network in Network Transformer with Token Mixing Generated Gating (arXiv 2403.02411).

One block, with the same layer norm LN at both places and FF = linear, GELU, linear::

    n = LN(x)
    m = Mixer(n):   a = n + FF_tok(LN_t(n)^T)^T,   m = a + FF_ch(LN_c(a))
    x = x + (W n) * m            the mixer gates a linear layer
    x = x + FF(LN(x))

No position embedding and no norm at the end: the token MLP knows the positions.

Folds of the deploy form, both exact:

* mixing tokens is a 1x1 convolution whose channels are the tokens, so nothing is transposed;
* the mean commutes with linear layers, so the last block's second layer W2 runs once, inside the classifier:
  ``Wc mean(x + W2 h + b2) + bc = [Wc, Wc W2] [mean x, mean h] + (Wc b2 + bc)``.

Axis letters: B batch, C channels, H height, W width, N tokens, D width of a token, F hidden width, K classes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .fuse import Kernel, chain
from .fuse_modules import linear_of
from .image_sets import CIFAR10, CIFAR10_LABELS, FASHION_LABELS, FASHION_MNIST
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec


@dataclass(frozen=True)
class NinformerConfig:
    """Sizes of one member of the family."""

    size: int = 32
    """Pixels per side; the network takes no other size."""
    patch: int = 4
    dim: int = 256
    hidden: int = 512
    depth: int = 4
    dropout: float = 0.5
    channels: int = 3
    classes: int = 10

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return (self.size // self.patch) ** 2


class FeedForward(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        return self.net(x)

    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """Give copies of the two linear layers."""
        first, second = deepcopy(self.net[0]), deepcopy(self.net[3])
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        return first, second


class Swap(nn.Module):
    """Tokens to the place of channels, or back."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D, N)."""
        return x.transpose(1, 2)


class Mixer(nn.Module):
    """Mix tokens, then channels, each with a residual."""

    def __init__(self, config: NinformerConfig) -> None:
        super().__init__()
        dim, hidden, dropout = config.dim, config.hidden, config.dropout
        across = FeedForward(config.tokens, hidden, dropout)
        self.token_mix = nn.Sequential(nn.LayerNorm(dim), Swap(), across, Swap())
        self.channel_mix = nn.Sequential(nn.LayerNorm(dim), FeedForward(dim, hidden, dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        x = x + self.token_mix(x)
        return x + self.channel_mix(x)

    def fused(self) -> Mixer:
        """Write the token MLP as two 1x1 convolutions over tokens as channels. Exact."""
        own = deepcopy(self)
        norm, _, across, _ = own.token_mix
        assert isinstance(across, FeedForward)
        first, second = (_over_tokens(layer) for layer in across.layers())
        own.token_mix = nn.Sequential(norm, first, nn.GELU(), second)
        return own.eval()


class GatingUnit(nn.Module):
    """A linear layer, gated by a mixer of the same input."""

    def __init__(self, config: NinformerConfig) -> None:
        super().__init__()
        # The public checkpoints spell this one with a capital.
        self.Mixer = Mixer(config)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        return self.proj(x) * self.Mixer(x)


class Block(nn.Module):
    """Gated mixing and feed-forward behind one and the same layer norm."""

    def __init__(self, config: NinformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.mgu = GatingUnit(config)
        self.ffn = FeedForward(config.dim, config.hidden, config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        x = x + self.mgu(self.norm(x))
        return x + self.ffn(self.norm(x))

    def fused(self) -> Block:
        """Fold the mixer."""
        own = deepcopy(self)
        own.mgu.Mixer = own.mgu.Mixer.fused()
        return own.eval()


class Ninformer(nn.Module):
    """A network of the family; parameter names are those of the public code."""

    def __init__(self, config: NinformerConfig) -> None:
        super().__init__()
        self.patcher = nn.Conv2d(config.channels, config.dim, config.patch, config.patch)
        self.model = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.classifier = nn.Linear(config.dim, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        tokens = self.patcher(x).flatten(2).transpose(1, 2)
        return self.classifier(self.model(tokens).mean(dim=1))

    def fused(self) -> FusedNinformer:
        """Fold every block, and the last feed-forward's second layer into the classifier."""
        blocks = [block.fused() for block in self.model if isinstance(block, Block)]
        return FusedNinformer(deepcopy(self.patcher), blocks, self.classifier).eval()


class FusedNinformer(nn.Module):
    """The deploy form; the last block ends in the classifier."""

    def __init__(self, patcher: nn.Conv2d, blocks: list[Block], classifier: nn.Linear) -> None:
        super().__init__()
        *before, last = blocks
        first, second = last.ffn.layers()
        self.patcher = patcher
        self.blocks = nn.Sequential(*before)
        self.norm, self.mgu = last.norm, last.mgu
        self.widen = nn.Sequential(first, nn.GELU())
        self.classifier = _joined_classifier(second, classifier)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        x = self.blocks(self.patcher(x).flatten(2).transpose(1, 2))
        x = x + self.mgu(self.norm(x))
        hidden = self.widen(self.norm(x))
        return self.classifier(torch.cat((x.mean(dim=1), hidden.mean(dim=1)), dim=1))


def _over_tokens(linear: nn.Linear) -> nn.Conv1d:
    """Write a linear layer over tokens as a 1x1 convolution, (B, N, D) to (B, N', D)."""
    conv = nn.Conv1d(linear.in_features, linear.out_features, 1, device="meta")
    conv.weight, conv.bias = nn.Parameter(linear.weight.detach()[:, :, None].clone()), linear.bias
    return conv


def _joined_classifier(second: nn.Linear, classifier: nn.Linear) -> nn.Linear:
    """Join [mean x, mean h] to the logits: (K, D + F) and (K,)."""
    one, two = (Kernel(layer.weight[:, :, None, None], layer.bias) for layer in (second, classifier))
    joined = chain(one, two)
    weight = torch.cat((classifier.weight.detach(), joined.weight[:, :, 0, 0]), dim=1)
    return linear_of(weight, joined.bias)


CIFAR = NinformerConfig()
NANO = NinformerConfig(size=28, dim=96, hidden=160, dropout=0.1, channels=1)

PAPER = "NiNformer: A Network in Network Transformer with Token Mixing Generated Gating, arXiv 2403.02411"


@register
def ninformer() -> ModelSpec:
    """NiNformer as published for CIFAR-10, 2.65 M parameters."""
    return ModelSpec(
        name="ninformer",
        build=partial(Ninformer, CIFAR),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        paper=PAPER,
        licence="BSD-3-Clause",
        checked=EQUAL_OUTPUTS,
        params=2_652_170,
        preprocess=CIFAR10,
        labels=CIFAR10_LABELS,
    )


@register
def ninformer_nano() -> ModelSpec:
    """A small sibling for 28x28 grey images."""
    return ModelSpec(
        name="ninformer_nano",
        build=partial(Ninformer, NANO),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="BSD-3-Clause",
        checked="forward written from the formulae; scored on Fashion-MNIST",
        weights="ninformer_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )
