"""Dynamic Perceiver for Efficient Visual Recognition (arXiv 2306.11248), and a small sibling.

A convolutional network (map x) and a few latent tokens (z) run side by side and look at each other, so that
the classifiers of the tokens need not wait for the end of the convolutions. With N, N/2, N/4, N/8 tokens::

    stage i:   z <- expand_i(mix_i(z))         (i > 1) LN, linear over tokens; LN, linear over channels
               x <- x + A(x, z), x + MLP(x)    (i > 1) positions read the tokens, keys an eighth as wide
               z <- z + A(z, pool_7(x + DW_7(x)) + places), z + MLP(z)
               z <- transformer layers of z
               x <- convolutions_i(x)

    y_early3 = W mean(z after stage 3)                          y_att = W [mean z, isc(y_early3)]
    y_cnn    = W mean(x)                                        isc(y) = relu(BN(W y))
    y_merge  = W BN([mean(x + A(x, z) ...), mean z, isc(y_att)])

The deploy form has one part per exit; each takes and gives tensors only, so that each can be exported alone:

    part 1: image -> x, z, y_early3        part 3: x -> x, y_cnn
    part 2: x, z, y_early3 -> x, z, y_att  part 4: x, z, y_att -> y_merge

Folded: every batch norm, x + DW_7(x), the scales of queries, and the first queries, which do not depend on
the picture and are a constant; pool_7 as two constant matrices where 7 does not divide the map.

Axis letters: B batch, C channels, H height, W width, N latent tokens, K classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .dynamic_perceiver_blocks import POOLED, CrossLayer, SelfLayer, pool, read_map, write_map
from .dynamic_perceiver_cnn import Trunk, mobilenet_v3, regnet, resnet50
from .dynamic_perceiver_deploy import FusedPerceiver
from .image_sets import CIFAR10, CIFAR10_LABELS, FASHION_LABELS, FASHION_MNIST, IMAGENET
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec

HEADS = (1, 2, 4, 8)
EXITS = ("y_early3", "y_att", "y_cnn", "y_merge")


@dataclass(frozen=True)
class PerceiverConfig:
    """Sizes of one member of the family."""

    trunk: Callable[[], Trunk]
    joint: bool
    """Whether the checkpoints hold the four stages in one module."""
    layers: tuple[int, int, int, int]
    """Transformer layers of each stage."""
    latents: int = 128
    widening: int = 4
    """Of the transformers' MLPs."""
    classes: int = 1000


class DynamicPerceiver(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        trunk = config.trunk()
        self.widths = widths = trunk.widths
        self.latent = nn.Parameter(0.02 * torch.randn(config.latents, widths[0]))
        self.cnn_stem, self.joint = trunk.stem, config.joint
        if config.joint:
            named = OrderedDict((f"block{i + 1}", stage) for i, stage in enumerate(trunk.stages))
            self.cnn_body = nn.Sequential(named)
        for i, (width, stage) in enumerate(zip(widths[:4], trunk.stages, strict=True)):
            if not config.joint:
                self.add_module(f"cnn_body_stage{i + 1}", stage)
            self.add_module(f"dwc{i + 1}_x2z", nn.Conv2d(width, width, 7, padding=3, groups=width))
            self.add_module(f"cross_att{i + 1}_x2z", CrossLayer(width, width, width, POOLED**2))
            if i > 0:
                self.add_module(f"cross_att{i + 1}_z2x", CrossLayer(width, width, width // 8))
            layers = [SelfLayer(HEADS[i], width, config.widening) for _ in range(config.layers[i])]
            self.add_module(f"self_att{i + 1}", nn.ModuleList(layers))
        tokens = [config.latents // 2**i for i in range(4)]
        self.token_mixer = nn.ModuleList(_norm_linear(tokens[i], tokens[i + 1]) for i in range(3))
        self.token_expander = nn.ModuleList(_norm_linear(widths[i], widths[i + 1]) for i in range(3))
        self.last_cross_att_z2x = CrossLayer(widths[4], widths[3], widths[4] // 8)
        self.early_classifier3 = nn.Linear(widths[2], config.classes)
        self.isc3 = _short_cut(config.classes, widths[3])
        self.isc4 = _short_cut(config.classes, widths[3])
        self.classifier_att = nn.Linear(2 * widths[3], config.classes)
        self.classifier_cnn = _classifier(widths[4], trunk.hidden, config.classes)
        merged = widths[4] + 2 * widths[3]
        head = _classifier(merged, trunk.hidden, config.classes)
        heads = head if isinstance(head, nn.Sequential) else [head]
        self.classifier_merge = nn.Sequential(nn.BatchNorm1d(merged), *heads)
        self.apply(_initialise)

    def part(self, kind: str, stage: int) -> nn.Module:
        """Get a part of a stage from 0, such as ``dwc{}_x2z``."""
        return self.get_submodule(kind.format(stage + 1))

    def convolutions(self, stage: int) -> nn.Module:
        """Get the convolutions of a stage from 0."""
        return self.part("cnn_body.block{}" if self.joint else "cnn_body_stage{}", stage)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, H, W) pixels to the logits (B, K) of the four exits."""
        x = self.cnn_stem(x)
        z = self.latent.expand(x.shape[0], -1, -1)
        x, z = self.look_at(x, z, 0)
        x, z = self.exchange(self.convolutions(0)(x), z, 1)
        x, z = self.exchange(self.convolutions(1)(x), z, 2)
        early = self.early_classifier3(z.mean(dim=1))
        x, z = self.exchange(self.convolutions(2)(x), z, 3)
        summary = z.mean(dim=1)
        att = self.classifier_att(torch.cat([summary, self.isc3(early)], dim=1))
        x = self.convolutions(3)(x)
        cnn = self.classifier_cnn(x.mean(dim=(2, 3)))
        x = write_map(self.last_cross_att_z2x, x, z)
        merged = torch.cat([x.mean(dim=(2, 3)), summary, self.isc4(att)], dim=1)
        return early, att, cnn, self.classifier_merge(merged)

    def exchange(self, x: Tensor, z: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Begin a stage: (B, C, H, W) and (B, N, C') to the same and (B, N / 2, C)."""
        z = self.token_mixer[stage - 1](z.transpose(1, 2)).transpose(1, 2)
        z = self.token_expander[stage - 1](z)
        return self.look_at(write_map(self.part("cross_att{}_z2x", stage), x, z), z, stage)

    def look_at(self, x: Tensor, z: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Let the tokens (B, N, C) read the map (B, C, H, W) and think about it."""
        summary = pool(x + self.part("dwc{}_x2z", stage)(x))
        z = read_map(self.part("cross_att{}_x2z", stage), z, summary)
        for layer in self.part("self_att{}", stage).children():
            z = layer(z)
        return x, z

    def fused(self) -> FusedPerceiver:
        """Fold everything that the module's docstring names, and cut the network at its exits."""
        return FusedPerceiver(self)


def _norm_linear(size: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(size), nn.Linear(size, out))


def _short_cut(classes: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(classes, dim), nn.BatchNorm1d(dim), nn.ReLU())


def _classifier(dim: int, hidden: int | None, classes: int) -> nn.Module:
    if hidden is None:
        return nn.Linear(dim, classes)
    return nn.Sequential(nn.Linear(dim, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, classes))


def _initialise(module: nn.Module) -> None:
    """He's rule by fan-out for convolutions, truncated normal for linear layers, zero biases."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Conv2d | nn.Linear):
        for name, value in module.named_parameters():
            if name == "bias":
                nn.init.zeros_(value)


def _regnet(widths: tuple[int, ...], depths: tuple[int, ...], group: int) -> PerceiverConfig:
    return PerceiverConfig(partial(regnet, widths, depths, group), joint=True, layers=(3, 3, 9, 6))


REG400M = _regnet((48, 104, 208, 440), (1, 3, 6, 6), 8)
REG800M = _regnet((64, 144, 320, 784), (1, 3, 8, 2), 16)
REG1600M = _regnet((48, 120, 336, 888), (2, 6, 17, 2), 24)
REG3200M = _regnet((72, 216, 576, 1512), (2, 5, 13, 1), 24)
RESNET50_0375 = PerceiverConfig(partial(resnet50, 0.375), joint=False, layers=(3, 3, 9, 3))
MOBILENET_075 = PerceiverConfig(partial(mobilenet_v3, 0.75), joint=False, layers=(3, 3, 9, 9))
MOBILENET_100 = PerceiverConfig(partial(mobilenet_v3, 1.0), joint=False, layers=(3, 3, 9, 9))
_NANO_TRUNK = partial(
    regnet, (24, 40, 64, 96), (1, 1, 2, 1), 8, channels=1, stem=(16, 1), strides=(2, 2, 1, 2)
)
NANO = PerceiverConfig(_NANO_TRUNK, joint=True, layers=(1, 1, 2, 1), latents=32, widening=2, classes=10)
_CIFAR_TRUNK = partial(regnet, (32, 48, 64, 96), (1, 2, 2, 1), 16, stem=(24, 1), strides=(2, 2, 1, 2))
CIFAR_NANO = PerceiverConfig(
    _CIFAR_TRUNK, joint=True, layers=(1, 1, 1, 1), latents=16, widening=2, classes=10
)

PAPER = "Dynamic Perceiver for Efficient Visual Recognition, arXiv 2306.11248"


def _published(name: str, config: PerceiverConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(DynamicPerceiver, config),
        inputs=(TensorSpec("image", ("batch", 3, 224, 224)),),
        outputs=EXITS,
        answer=EXITS[-1],
        paper=PAPER,
        licence="MIT",
        checked=EQUAL_OUTPUTS,
        params=params,
        preprocess=IMAGENET,
    )


@register
def perceiver_reg400m() -> ModelSpec:
    """Dynamic Perceiver on RegNetY-400M, 11.6 M parameters."""
    return _published("perceiver_reg400m", REG400M, 11_606_544)


@register
def perceiver_reg800m() -> ModelSpec:
    """Dynamic Perceiver on RegNetY-800M, 21.8 M parameters."""
    return _published("perceiver_reg800m", REG800M, 21_798_360)


@register
def perceiver_reg1600m() -> ModelSpec:
    """Dynamic Perceiver on RegNetY-1.6G, 27.2 M parameters."""
    return _published("perceiver_reg1600m", REG1600M, 27_161_246)


@register
def perceiver_reg3200m() -> ModelSpec:
    """Dynamic Perceiver on RegNetY-3.2G, 62.7 M parameters."""
    return _published("perceiver_reg3200m", REG3200M, 62_743_346)


@register
def perceiver_resnet50_0375() -> ModelSpec:
    """Dynamic Perceiver on ResNet-50 of 0.375 the width, 20.3 M parameters."""
    return _published("perceiver_resnet50_0375", RESNET50_0375, 20_283_336)


@register
def perceiver_mobilenet_075() -> ModelSpec:
    """Dynamic Perceiver on MobileNetV3-Large of 0.75 the width, 9.3 M parameters."""
    return _published("perceiver_mobilenet_075", MOBILENET_075, 9_299_040)


@register
def perceiver_mobilenet_100() -> ModelSpec:
    """Dynamic Perceiver on MobileNetV3-Large, 15.2 M parameters."""
    return _published("perceiver_mobilenet_100", MOBILENET_100, 15_162_448)


@register
def perceiver_nano() -> ModelSpec:
    """A small sibling for 28x28 grey images."""
    return ModelSpec(
        name="perceiver_nano",
        build=partial(DynamicPerceiver, NANO),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        outputs=EXITS,
        answer=EXITS[-1],
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="MIT",
        checked="forward written from the formulae; scored on Fashion-MNIST",
        weights="perceiver_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def perceiver_cifar_nano() -> ModelSpec:
    """A small sibling for 32x32 coloured images of CIFAR-10."""
    return ModelSpec(
        name="perceiver_cifar_nano",
        build=partial(DynamicPerceiver, CIFAR_NANO),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        outputs=EXITS,
        answer=EXITS[-1],
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="MIT",
        checked="forward written from the formulae",
        preprocess=CIFAR10,
        labels=CIFAR10_LABELS,
    )
