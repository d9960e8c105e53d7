"""MoH-ViT: TransNeXt (arXiv 2311.17132) with Mixture-of-Head attention (arXiv 2410.11842).

Four stages on grids of 56, 28, 14 and 7 positions a side. All but the last attend to neighbours and to pooled
tokens at once. With u(.) division by the length and t a temperature per head::

    q = (u(x Wq) + e) softplus(t) log(keys),   (k, v) = x Wkv,   (k', v') = LN(pool(GELU(x Wsr))) Wkv
    [a, a'] = softmax([q u(k)_near + b_near, q u(k')^T + b_far])
    head = (a + u(x Wq) E + o) v_near + a' v'            E, o: learned local weights
    b_far = W2 relu(W1 c) of c = sign(d) log8(|d| + 1), d the distance to a pooled token, 8 across the map

``near`` are the 3 x 3 positions around; the ones outside the map have no weight and do not count as keys. In
the last stage there are no neighbours and k', v' are the tokens' own. MoH weights the heads, token by token
(``routing``); y = [w_1 head_1, w_2 head_2, ...] Wproj. The MLP is gated by a convolution::

    y = (GELU(DW_3(x W)) * (x V)) W2

Folded for a fixed picture size: every b, scale and border to constants, all gates into one layer, the halves
of joint layers apart. ``skip`` takes the deploy form that computes a routed head only for the tokens that
select it; the trained form computes all of them.

Axis letters: B batch, C channels, H height, W width, N = H W tokens, K classes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from ..errors import BuildError
from .image_sets import FASHION_LABELS, FASHION_MNIST, IMAGENET
from .moh_vit_blocks import Block, MohVitConfig
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec


class Patches(nn.Module):
    """Strided convolution to tokens, then layer norm."""

    def __init__(self, channels: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, N', C')."""
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


class ToMap(nn.Module):
    """Lay tokens out as a map again."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, C, H, W)."""
        return x.transpose(1, 2).reshape(-1, x.shape[2], *self.grid)


class Head(nn.Module):
    """Mean over tokens, then a linear classifier."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, K)."""
        return self.linear(x.mean(dim=1))


class MohVit(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: MohVitConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        for stage, dim in enumerate(config.dims):
            first = stage == 0
            source = config.channels if first else config.dims[stage - 1]
            patches = Patches(source, dim, *(config.stem if first else (3, 2)))
            self.add_module(f"patch_embed{stage + 1}", patches)
            blocks = [Block(config, stage) for _ in range(config.depths[stage])]
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(dim, eps=1e-6))
        self.head = nn.Linear(config.dims[-1], config.classes)
        self.apply(_initialise)

    def layers(self) -> OrderedDict[str, nn.Module]:
        """Give everything before the head in the order of execution, by name."""
        order: OrderedDict[str, nn.Module] = OrderedDict()
        for stage in range(1, len(self.config.dims) + 1):
            if stage > 1:
                order[f"map{stage}"] = ToMap(self.config.grid(stage - 2))
            order[f"patch_embed{stage}"] = self.get_submodule(f"patch_embed{stage}")
            for j, block in enumerate(self.get_submodule(f"block{stage}").children()):
                order[f"block{stage}_{j}"] = block
            order[f"norm{stage}"] = self.get_submodule(f"norm{stage}")
        return order

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        for layer in self.layers().values():
            x = layer(x)
        return self.head(x.mean(dim=1))

    def fused(self) -> nn.Sequential:
        """Fold every block."""
        layers = self.layers().items()
        folded = OrderedDict((n, x.fused() if isinstance(x, Block) else deepcopy(x)) for n, x in layers)
        folded["head"] = Head(deepcopy(self.head))
        return nn.Sequential(folded).eval()


def _check(config: MohVitConfig) -> None:
    coarsest = config.stem[1] * 2 ** (len(config.dims) - 1)
    pools = [config.grid(stage)[0] % ratio for stage, ratio in enumerate(config.ratios)]
    if config.size % coarsest or any(pools):
        message = (
            f"expected a size that {coarsest} and all squares of pooled positions divide, got {config.size} "
            f"with ratios {config.ratios}; change one of them"
        )
        raise BuildError(message)


def _initialise(module: nn.Module) -> None:
    """Truncated normal for linear layers, He's rule by fan-out for convolutions, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


_BASE = MohVitConfig(
    (96, 192, 384, 768), (4, 8, 16, 32), (5, 5, 23, 5), shared=(4, 8, 4, 5), top_k=(0, 0, 8, 16)
)
_SMALL = MohVitConfig(
    (72, 144, 288, 576), (3, 6, 12, 24), (5, 5, 22, 5), shared=(3, 6, 3, 8), top_k=(0, 0, 6, 12)
)
B_75 = _BASE
B_50 = replace(_BASE, shared=(2, 2, 2, 4), top_k=(2, 4, 6, 8))
S_80 = _SMALL
S_75 = replace(_SMALL, shared=(3, 6, 3, 4))
NANO = MohVitConfig(
    (48, 96),
    (4, 8),
    (2, 3),
    shared=(2, 3),
    top_k=(1, 3),
    mlp_ratios=(4, 4),
    ratios=(2, 1),
    stem=(3, 2),
    size=28,
    channels=1,
    classes=10,
)

PAPER = "MoH: Multi-Head Attention as Mixture-of-Head Attention, arXiv 2410.11842"


def _published(name: str, config: MohVitConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(MohVit, config),
        inputs=(TensorSpec("image", ("batch", 3, 224, 224)),),
        paper=PAPER,
        licence="Apache-2.0",
        checked=EQUAL_OUTPUTS,
        params=params,
        preprocess=IMAGENET,
    )


@register
def moh_vit_b_75() -> ModelSpec:
    """MoH-ViT-B with three quarters of the heads selected, 90.0 M parameters."""
    return _published("moh_vit_b_75", B_75, 90_020_632)


@register
def moh_vit_b_50() -> ModelSpec:
    """MoH-ViT-B with half of the heads selected, 90.0 M parameters."""
    return _published("moh_vit_b_50", B_50, 90_023_512)


@register
def moh_vit_b_50_skip() -> ModelSpec:
    """The same network, deployed so that a token's unselected heads are not computed."""
    return _published("moh_vit_b_50_skip", replace(B_50, skip=True), 90_023_512)


@register
def moh_vit_s_80() -> ModelSpec:
    """MoH-ViT-S with four fifths of the heads selected, 49.9 M parameters."""
    return _published("moh_vit_s_80", S_80, 49_910_548)


@register
def moh_vit_s_75() -> ModelSpec:
    """MoH-ViT-S with three quarters of the heads selected, 49.9 M parameters."""
    return _published("moh_vit_s_75", S_75, 49_910_548)


def _nano(name: str, config: MohVitConfig, weights: str | None = None) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(MohVit, config),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="Apache-2.0",
        checked="forward written from the formulae" + ("; scored on Fashion-MNIST" if weights else ""),
        weights=weights,
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def moh_vit_nano() -> ModelSpec:
    """A small sibling for 28x28 grey images; three quarters of its heads are selected."""
    return _nano("moh_vit_nano", NANO, weights="moh_vit_nano.safetensors")


@register
def moh_vit_nano_skip() -> ModelSpec:
    """The same network, deployed so that a token's unselected heads are not computed."""
    return _nano("moh_vit_nano_skip", replace(NANO, skip=True), weights="moh_vit_nano.safetensors")
