"""SMT: Scale-Aware Modulation Meet Transformer (Lin et al., arXiv 2307.08579), and a small sibling.

Four stages; the first two mix positions by convolution, the last by attention, the third alternates.

Scale-aware modulation (SAM), with h = 4 heads of c = C / 4 channels::

    v = x Wv,   s = x Ws,   u_i = DW_{3+2i}(s_i)         i = 0..3: kernels 3, 5, 7, 9
    m = P1 GELU(BN(P0 [u_00 u_10 u_20 u_30 u_01 ...]))   interleaved: one group of P0 sees all four scales
    y = (m * v) W

Attention with a convolutional short cut::

    y = (softmax(q k^T / sqrt(d)) v + DW_3(v)) W

MLP with a residual convolution inside the activation::

    y = W2 GELU(a + DW_3(a)),   a = W1 x

Folds of the deploy form, all exact, with BN(x) = s x + t, a layer scale g and heads of d channels::

    BN(P0 u) = (s P0) u + t                   q k^T / sqrt(d) = (x Wq / sqrt(d)) k^T
    x + g (x W + b) = x + x (W g) + g b       a + DW_3(a) = DW'_3(a): 1 added to the centre of every kernel

``smt_nano`` and ``smt_cifar_nano`` have the same blocks; their stem has stride 2 instead of 4, for pictures
of 28x28 and 32x32 pixels.

Axis letters: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from .image_sets import CIFAR10, CIFAR10_LABELS, FASHION_LABELS, FASHION_MNIST, IMAGENET
from .registry import register
from .smt_blocks import Attention, Block, Modulation, Patches, Stem
from .smt_deploy import MapNorm, MeanHead
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec


@dataclass(frozen=True)
class SmtConfig:
    """Sizes of one member of the family; sequences have one entry per stage."""

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int] = (4, 4, 4, 2)
    attention_heads: tuple[int, int] = (8, 16)
    """Heads of the attention blocks of stages three and four."""
    stem_kernel: int = 3
    stem_strides: tuple[int, int] = (2, 2)
    layer_scale: float | None = None
    """Initial value of the learned scale of every branch; None has no such scale."""
    channels: int = 3
    classes: int = 1000


class Smt(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: SmtConfig) -> None:
        super().__init__()
        self.patch_embed1 = Stem(config.channels, config.dims[0], config.stem_kernel, config.stem_strides)
        for stage in range(4):
            if stage > 0:
                self.add_module(f"patch_embed{stage + 1}", _downsample(*config.dims[stage - 1 : stage + 1]))
            blocks = [_block(config, stage, j) for j in range(config.depths[stage])]
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(config.dims[stage], eps=1e-6))
        self.head = nn.Linear(config.dims[3], config.classes)
        self.apply(_initialise)

    def layers(self) -> OrderedDict[str, nn.Module]:
        """Give everything before the head in the order of execution, by name."""
        order: OrderedDict[str, nn.Module] = OrderedDict()
        for stage in range(1, 5):
            order[f"patch_embed{stage}"] = self.get_submodule(f"patch_embed{stage}")
            for j, block in enumerate(self.get_submodule(f"block{stage}").children()):
                order[f"block{stage}_{j}"] = block
            order[f"norm{stage}"] = self.get_submodule(f"norm{stage}")
        return order

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        for layer in self.layers().values():
            x = layer(x)
        return self.head(x.mean(dim=(1, 2)))

    def fused(self) -> nn.Sequential:
        """Fold every layer that can be folded, and keep maps as (B, C, H, W) from the first to the last."""
        folded = OrderedDict((name, _on_maps(layer)) for name, layer in self.layers().items())
        folded["head"] = MeanHead(deepcopy(self.head))
        return nn.Sequential(folded).eval()


def _on_maps(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.LayerNorm):
        return MapNorm(deepcopy(layer))
    assert isinstance(layer, Stem | Patches | Block)
    return layer.on_maps()


def _downsample(dim: int, out: int) -> Patches:
    return Patches(nn.Conv2d(dim, out, 3, stride=2, padding=1), nn.LayerNorm(out))


def _block(config: SmtConfig, stage: int, index: int) -> Block:
    dim = config.dims[stage]
    attends = stage == 3 or (stage == 2 and index % 2 == 1)
    attn = Attention(dim, config.attention_heads[stage - 2]) if attends else Modulation(dim)
    return Block(dim, attn, config.mlp_ratios[stage], config.layer_scale)


def _initialise(module: nn.Module) -> None:
    """Truncated normal for linear layers, He's rule by fan-out for convolutions, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


SMALL = (64, 128, 256, 512)
LARGE = (96, 192, 384, 768)
T = SmtConfig(SMALL, (2, 2, 8, 1))
S = SmtConfig(SMALL, (3, 4, 18, 2))
B = SmtConfig(SMALL, (4, 6, 28, 2), mlp_ratios=(8, 6, 4, 2), stem_kernel=7)
L = SmtConfig(LARGE, (4, 6, 28, 4), mlp_ratios=(8, 6, 4, 2), stem_kernel=7, layer_scale=1e-4)
NANO = SmtConfig(
    (32, 48, 64, 96), (1, 2, 4, 1), attention_heads=(4, 6), stem_strides=(2, 1), channels=1, classes=10
)
CIFAR_NANO = SmtConfig(
    (32, 64, 96, 128),
    (1, 2, 2, 1),
    mlp_ratios=(2, 2, 2, 2),
    attention_heads=(4, 8),
    stem_strides=(2, 1),
    classes=10,
)

PAPER = "Scale-Aware Modulation Meet Transformer, arXiv 2307.08579"


def _published(name: str, config: SmtConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(Smt, config),
        inputs=(TensorSpec("image", ("batch", 3, 224, 224)),),
        paper=PAPER,
        licence="MIT",
        checked=EQUAL_OUTPUTS,
        params=params,
        preprocess=IMAGENET,
    )


@register
def smt_t() -> ModelSpec:
    """SMT-T, 11.5 M parameters."""
    return _published("smt_t", T, 11_506_536)


@register
def smt_s() -> ModelSpec:
    """SMT-S, 22.6 M parameters."""
    return _published("smt_s", S, 22_550_952)


@register
def smt_b() -> ModelSpec:
    """SMT-B, 32.0 M parameters."""
    return _published("smt_b", B, 32_037_352)


@register
def smt_l() -> ModelSpec:
    """SMT-L with layer scale, 80.6 M parameters."""
    return _published("smt_l", L, 80_620_264)


@register
def smt_nano() -> ModelSpec:
    """A small sibling for 28x28 grey images, trained on Fashion-MNIST."""
    return ModelSpec(
        name="smt_nano",
        build=partial(Smt, NANO),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="MIT",
        checked="trained and scored on Fashion-MNIST; see smt_nano.json beside the weights",
        weights="smt_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def smt_cifar_nano() -> ModelSpec:
    """A small sibling for 32x32 coloured images of CIFAR-10."""
    return ModelSpec(
        name="smt_cifar_nano",
        build=partial(Smt, CIFAR_NANO),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="MIT",
        checked="trained and scored on CIFAR-10; see smt_cifar_nano.json beside the weights",
        weights="smt_cifar_nano.safetensors",
        preprocess=CIFAR10,
        labels=CIFAR10_LABELS,
    )
