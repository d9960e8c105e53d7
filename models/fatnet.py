"""FatNet: a fully convolutional classifier for optical processors (AI 2023, 4(2), 18; arXiv 2210.16914).

An optical 4f processor convolves a map with a kernel of any size in one pass: what counts there are pairs of
channels, not multiplications. FatNet rewrites a residual network for that::

    the map is frozen as soon as it has no more pixels than there are classes, instead of shrinking on;
    pixels per layer stay as they were:   C' = C H W / (H' W')       fewer channels on the larger map;
    weights per layer stay as they were:  k' = k sqrt(C I / (C' I'))  larger kernels, up to the whole map;
    the pixels of the last map, of one channel, are the logits.

A pair of layers, each a convolution that keeps the map (an even kernel reaches one pixel further to the right
and below), batch norm and ReLU, adds its input where it keeps the channels::

    layer(x) = pool(ReLU(BN(K * x))),   x <- layer(layer(x)) [+ x]

``pool`` averages over regions of as equal size as possible (``even_pool``).

The network for CIFAR-100 and its baseline have the names of the state dict of the authors' simulator
(github.com/riadibadulla/simulator). The small ones are ours.

Axis letters: B batch, C and I output and input channels, H height, W width, K classes, k kernel size.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from .even_pool import EvenPool
from .fuse_modules import fold_conv_norm
from .image_sets import CIFAR10, CIFAR10_LABELS, CIFAR100, FASHION_LABELS, FASHION_MNIST
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec

Size = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """One convolution with what follows it."""

    channels: int
    kernel: int = 3
    pool: int | None = None
    """Pixels per side afterwards; None leaves the map as it is."""


@dataclass(frozen=True)
class FatConfig:
    """Sizes of one member of the family."""

    stem: Layer
    pairs: tuple[tuple[Layer, Layer], ...]
    grid: Size | None = None
    """Height and width of the logits, of as many pixels as classes; None for a linear classifier."""
    last_kernel: Size = (10, 10)
    size: int = 32
    """Pixels per side of the picture."""
    channels: int = 3
    classes: int = 100


class EvenConv(nn.Conv2d):
    """A convolution of stride 1 that keeps the map with a kernel of even size too."""

    def __init__(self, inputs: int, outputs: int, kernel: Size) -> None:
        super().__init__(inputs, outputs, kernel)
        self.reach = reach(kernel)

    def forward(self, input: Tensor) -> Tensor:
        """(B, I, H, W) to (B, C, H, W)."""
        return super().forward(nn.functional.pad(input, self.reach))


def reach(kernel: Size) -> tuple[int, int, int, int]:
    """Give how far a kernel reaches to the left, to the right, above and below."""
    height, width = kernel
    return (width - 1) // 2, width // 2, (height - 1) // 2, height // 2


def same_conv(inputs: int, outputs: int, kernel: Size) -> nn.Conv2d:
    """Build a convolution of stride 1 that keeps the map."""
    if any(k % 2 == 0 for k in kernel):
        return EvenConv(inputs, outputs, kernel)
    return nn.Conv2d(inputs, outputs, kernel, padding=(kernel[0] // 2, kernel[1] // 2))


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[nn.Module]:
    """Fold a batch norm into the convolution before it (``fuse.scale_outputs``)."""
    made = fold_conv_norm(conv, norm)
    return [nn.ZeroPad2d(conv.reach), made] if isinstance(conv, EvenConv) else [made]


class Block(nn.Sequential):
    """One layer: convolution, batch norm, ReLU and perhaps a pooling, (B, I, H, W) to (B, C, H', W')."""

    def fused(self) -> nn.Sequential:
        """Fold the batch norm into the convolution (``fuse.scale_outputs``)."""
        conv, norm, *rest = self.children()
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        parts = (m.fused() if isinstance(m, EvenPool) else deepcopy(m) for m in rest)
        return nn.Sequential(*fold_norm(conv, norm), *parts).eval()


class Pair(nn.Sequential):
    """Two layers, (B, I, H, W) to (B, C, H', W')."""

    def fused(self) -> Pair:
        """Fold both."""
        return Pair(*folded(self)).eval()


class Residual(Pair):
    """Two layers that keep the shape, with the input added."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        first, second = self
        return second(first(input)) + input

    def fused(self) -> Pair:
        """Fold both."""
        return Residual(*folded(self)).eval()


class FatNet(nn.Sequential):
    """A network of the family: (B, C, H, W) pixels to (B, K) logits."""

    def fused(self) -> nn.Sequential:
        """Fold every layer."""
        return nn.Sequential(*folded(self)).eval()


def folded(chain: nn.Sequential) -> list[nn.Module]:
    """Give the deploy form of every part."""
    return [m.fused() if isinstance(m, Block | Pair | EvenPool) else deepcopy(m) for m in chain]


def block(inputs: int, layer: Layer, size: int) -> Block:
    """Build one layer on a map of ``size`` pixels per side."""
    conv = same_conv(inputs, layer.channels, (layer.kernel, layer.kernel))
    parts = [conv, nn.BatchNorm2d(layer.channels), nn.ReLU()]
    pool = [] if layer.pool is None else [EvenPool((size, size), (layer.pool, layer.pool))]
    return Block(*parts, *pool)


def fatnet(config: FatConfig) -> FatNet:
    """Build a network part by part: ``conv1``, then pairs called ``res1``, ``conv2`` and so on."""
    net = FatNet()
    net.add_module("conv1", block(config.channels, config.stem, config.size))
    channels, size = config.stem.channels, config.stem.pool or config.size
    counts = {"conv": 1, "res": 0}
    for first, second in config.pairs:
        keeps = first.pool is None and second.pool is None and second.channels == channels
        kind, made = ("res", Residual) if keeps else ("conv", Pair)
        counts[kind] += 1
        inner = first.pool or size
        parts = block(channels, first, size), block(first.channels, second, inner)
        net.add_module(f"{kind}{counts[kind]}", made(*parts))
        channels, size = second.channels, second.pool or inner
    for name, part in ending(config, channels, size).items():
        net.add_module(name, part)
    return net


def ending(config: FatConfig, channels: int, size: int) -> dict[str, nn.Module]:
    """Build what turns the last map (B, C, H, W) into logits."""
    if config.grid is None:
        linear = nn.Linear(channels, config.classes)
        classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), linear)
        return {"pool": nn.MaxPool2d(size), "classifier": classifier}
    last = same_conv(channels, 1, config.last_kernel)
    classifier = nn.Sequential(nn.Dropout(0.2), last, nn.Flatten())
    if config.grid == (size, size):
        return {"classifier": classifier}
    return {"pool": EvenPool((size, size), config.grid), "classifier": classifier}


def doubled(layer: Layer) -> tuple[Layer, Layer]:
    """Give a pair of equal layers."""
    return layer, layer


CIFAR_FATNET = FatConfig(
    stem=Layer(64, 7, 16),
    pairs=(
        doubled(Layer(64)),
        doubled(Layer(64)),
        (Layer(82, 4, 10), Layer(82, 5)),
        doubled(Layer(82, 5)),
        (Layer(78, 7), Layer(78, 10)),
        doubled(Layer(78, 10)),
        (Layer(151, 10), Layer(155, 10)),
        (Layer(151, 10), Layer(155, 10)),
    ),
    grid=(10, 10),
)
CIFAR_RESNET = FatConfig(
    stem=Layer(64, 7, 16),
    pairs=(
        doubled(Layer(64)),
        doubled(Layer(64)),
        (Layer(128, 3, 8), Layer(128)),
        doubled(Layer(128)),
        (Layer(256, 3, 4), Layer(256)),
        doubled(Layer(256)),
        (Layer(512, 3, 2), Layer(512)),
        doubled(Layer(512)),
    ),
)
NANO = FatConfig(
    stem=Layer(16, 5, 14),
    pairs=(
        doubled(Layer(16)),
        (Layer(32, 4, 7), Layer(32, 5)),
        doubled(Layer(32, 7)),
    ),
    grid=(2, 5),
    last_kernel=(3, 9),
    size=28,
    channels=1,
    classes=10,
)
CIFAR_NANO = FatConfig(
    stem=Layer(32, 5, 16),
    pairs=(
        doubled(Layer(32)),
        (Layer(48, 4, 8), Layer(48, 5)),
        doubled(Layer(48, 5)),
    ),
    grid=(2, 5),
    last_kernel=(3, 9),
    classes=10,
)

PAPER = (
    "FatNet: High-Resolution Kernels for Classification Using Fully Convolutional Optical Neural Networks, "
    "doi 10.3390/ai4020018"
)


def _cifar100(name: str, config: FatConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(fatnet, config),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        paper=PAPER,
        licence="MIT",
        checked=EQUAL_OUTPUTS,
        params=params,
        preprocess=CIFAR100,
    )


@register
def fatnet_cifar100() -> ModelSpec:
    """FatNet for CIFAR-100: 148,792 pairs of channels, 8.2 times fewer than its baseline."""
    return _cifar100("fatnet_cifar100", CIFAR_FATNET, 11_103_253)


@register
def fatnet_resnet_cifar100() -> ModelSpec:
    """The residual network that FatNet is compared with: 1,220,800 pairs of channels."""
    return _cifar100("fatnet_resnet_cifar100", CIFAR_RESNET, 11_057_892)


@register
def fatnet_nano() -> ModelSpec:
    """A small FatNet for 28x28 grey images: the map is frozen at 7x7."""
    return ModelSpec(
        name="fatnet_nano",
        build=partial(fatnet, NANO),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the layers of {PAPER}, at a size of our own",
        licence="MIT",
        checked="forward written from the formulae; scored on Fashion-MNIST",
        weights="fatnet_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def fatnet_cifar_nano() -> ModelSpec:
    """A small FatNet for 32x32 coloured images: the map is frozen at 8x8."""
    return ModelSpec(
        name="fatnet_cifar_nano",
        build=partial(fatnet, CIFAR_NANO),
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        paper=f"the layers of {PAPER}, at a size of our own",
        licence="MIT",
        checked="forward written from the formulae; scored on CIFAR-10",
        weights="fatnet_cifar_nano.safetensors",
        preprocess=CIFAR10,
        labels=CIFAR10_LABELS,
    )
