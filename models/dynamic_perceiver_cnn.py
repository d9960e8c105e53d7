"""The convolutional branches of the Dynamic Perceiver: RegNetY, ResNet-50 and MobileNetV3.

Module names are those of the public checkpoints. A batch norm always follows its convolution inside an
``nn.Sequential``, where `folded` finds it, or under the names ``convN`` and ``bnN`` of a ResNet block.

Axis letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import fold_conv_norm


@dataclass(frozen=True)
class Trunk:
    """A convolutional network in parts."""

    stem: nn.Module
    stages: tuple[nn.Module, ...]
    widths: tuple[int, ...]
    """Channels into each stage, and out of the last."""
    hidden: int | None = None
    """Width of the hidden layer of its classifiers; None without one."""


def conv_norm(
    channels: int,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    eps: float = 1e-5,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Make a convolution with batch norm and perhaps an activation."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out, eps=eps), *([] if act is None else [act]))


def folded(module: nn.Module) -> nn.Module:
    """Copy a module with every batch norm folded into the convolution before it."""
    return _fold(deepcopy(module)).eval()


def _fold(module: nn.Module) -> nn.Module:
    for name, child in list(module.named_children()):
        module.add_module(name, _fold(child))
    if isinstance(module, Bottleneck):
        module.fold()
    return _fold_chain(module) if type(module) is nn.Sequential else module


def _fold_chain(chain: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in chain:
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fold_conv_norm(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Scale channels by a small MLP of their means."""

    def __init__(self, channels: int, squeezed: int, gate: nn.Module) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x * self.gate(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class RegNetBlock(nn.Module):
    """relu(x + f(x)) with f = 1x1, grouped 3x3, squeeze-and-excite, 1x1; x projected where shapes differ."""

    def __init__(self, channels: int, out: int, stride: int, group: int) -> None:
        super().__init__()
        self.proj = conv_norm(channels, out, 1, stride) if stride > 1 or channels != out else None
        self.f = nn.Sequential()
        self.f.add_module("a", conv_norm(channels, out, act=nn.ReLU()))
        self.f.add_module("b", conv_norm(out, out, 3, stride, groups=out // group, act=nn.ReLU()))
        self.f.add_module("se", SqueezeExcite(out, round(channels / 4), nn.Sigmoid()))
        self.f.add_module("c", conv_norm(out, out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        short = x if self.proj is None else self.proj(x)
        return F.relu(short + self.f(x))


def regnet(
    widths: Sequence[int],
    depths: Sequence[int],
    group: int,
    *,
    channels: int = 3,
    stem: tuple[int, int] = (32, 2),
    strides: Sequence[int] = (2, 2, 2, 2),
) -> Trunk:
    """Make a RegNetY.

    Args:
        widths: Of the four stages.
        depths: Of the four stages.
        group: Channels of a group.
        channels: Of the picture.
        stem: Width and stride of the first convolution.
        strides: Of the four stages.
    """
    sizes = (stem[0], *widths)
    stages: list[nn.Module] = []
    for i, depth in enumerate(depths):
        stage = nn.Sequential()
        for j in range(depth):
            first = j == 0
            block = RegNetBlock(sizes[i if first else i + 1], sizes[i + 1], strides[i] if first else 1, group)
            stage.add_module(f"block{i + 1}-{j}", block)
        stages.append(stage)
    return Trunk(conv_norm(channels, stem[0], 3, stem[1], act=nn.ReLU()), tuple(stages), sizes)


class Bottleneck(nn.Module):
    """relu(x + f(x)) with f = 1x1, 3x3, 1x1; x projected where shapes differ."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), _norm(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), _norm(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), _norm(out)
        self.downsample = conv_norm(channels, out, 1, stride) if stride > 1 or channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        short = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(short + self.bn3(self.conv3(x)))

    def fold(self) -> None:
        """Fold the batch norms of this block, in place."""
        for i in (1, 2, 3):
            conv, norm = self.get_submodule(f"conv{i}"), self.get_submodule(f"bn{i}")
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            self.add_module(f"conv{i}", fold_conv_norm(conv, norm))
            self.add_module(f"bn{i}", nn.Identity())


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels)


def resnet50(multiplier: float) -> Trunk:
    """Make a ResNet-50 with all widths multiplied."""
    widths = [int(multiplier * width) for width in (64, 128, 256, 512)]
    sizes = (widths[0], *(4 * width for width in widths))
    conv = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
    stem = nn.Sequential(conv, _norm(widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    stages: list[nn.Module] = []
    for i, depth in enumerate((3, 4, 6, 3)):
        stride = 1 if i == 0 else 2
        blocks = [Bottleneck(sizes[i], widths[i], stride)]
        blocks += [Bottleneck(sizes[i + 1], widths[i], 1) for _ in range(depth - 1)]
        stages.append(nn.Sequential(*blocks))
    return Trunk(stem, tuple(stages), sizes)


@dataclass(frozen=True)
class Inverted:
    """A row of the table of MobileNetV3-Large."""

    channels: int
    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard: bool
    """Hardswish instead of ReLU."""
    stride: int


_LARGE = (
    Inverted(16, 3, 16, 16, False, False, 1),
    Inverted(16, 3, 64, 24, False, False, 2),
    Inverted(24, 3, 72, 24, False, False, 1),
    Inverted(24, 5, 72, 40, True, False, 2),
    Inverted(40, 5, 120, 40, True, False, 1),
    Inverted(40, 5, 120, 40, True, False, 1),
    Inverted(40, 3, 240, 80, False, True, 2),
    Inverted(80, 3, 200, 80, False, True, 1),
    Inverted(80, 3, 184, 80, False, True, 1),
    Inverted(80, 3, 184, 80, False, True, 1),
    Inverted(80, 3, 480, 112, True, True, 1),
    Inverted(112, 3, 672, 112, True, True, 1),
    Inverted(112, 5, 672, 160, True, True, 2),
    Inverted(160, 5, 960, 160, True, True, 1),
    Inverted(160, 5, 960, 160, True, True, 1),
)

_STAGES = (slice(0, 3), slice(3, 5), slice(5, 8), slice(8, 14), slice(14, 17))
"""Which of the 17 layers are the stem and the four stages."""


class InvertedResidual(nn.Module):
    """1x1 wider, depth-wise, squeeze-and-excitation, 1x1 narrower; plus x where shapes agree."""

    def __init__(self, row: Inverted, multiplier: float) -> None:
        super().__init__()
        sizes = (row.channels, row.expanded, row.out)
        channels, expanded, out = (_by_eight(size * multiplier) for size in sizes)
        act = nn.Hardswish if row.hard else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != channels:
            layers.append(conv_norm(channels, expanded, eps=1e-3, act=act()))
        depthwise = conv_norm(
            expanded, expanded, row.kernel, row.stride, groups=expanded, eps=1e-3, act=act()
        )
        layers.append(depthwise)
        if row.squeeze:
            layers.append(SqueezeExcite(expanded, _by_eight(expanded // 4), nn.Hardsigmoid()))
        layers.append(conv_norm(expanded, out, eps=1e-3))
        self.block = nn.Sequential(*layers)
        self.residual = row.stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        return x + self.block(x) if self.residual else self.block(x)


def _by_eight(size: float) -> int:
    """Round to a multiple of eight, not below nine tenths of the size."""
    rounded = max(8, int(size + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * size else rounded


def mobilenet_v3(multiplier: float) -> Trunk:
    """Make a MobileNetV3-Large with all widths multiplied."""
    first, last = (_by_eight(size * multiplier) for size in (16, 160))
    layers: list[nn.Module] = [conv_norm(3, first, 3, 2, eps=1e-3, act=nn.Hardswish())]
    layers += [InvertedResidual(row, multiplier) for row in _LARGE]
    layers.append(conv_norm(last, 6 * last, eps=1e-3, act=nn.Hardswish()))
    stem, *stages = (nn.Sequential(*layers[part]) for part in _STAGES)
    widths = [_by_eight(_LARGE[part.start - 1].channels * multiplier) for part in _STAGES[1:4]]
    return Trunk(stem, tuple(stages), (*widths, last, 6 * last), hidden=_by_eight(1280 * multiplier))
