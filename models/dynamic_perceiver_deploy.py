"""The deploy form of the Dynamic Perceiver: four parts, one per exit, that take and give tensors.

Axis letters: B batch, C channels, H height, W width, N latent tokens, K classes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .dynamic_perceiver_blocks import POOLED, CrossLayer, MultiHead, read_map, write_map
from .dynamic_perceiver_cnn import folded
from .even_pool import even_pool
from .fuse_modules import add_identity, fold_linear_norm, fold_norm_linear

if TYPE_CHECKING:
    from .dynamic_perceiver import DynamicPerceiver


def fold_scales(module: nn.Module) -> nn.Module:
    """Copy a module with all scales of queries folded into their weights."""
    own = deepcopy(module)
    for part in own.modules():
        if isinstance(part, MultiHead):
            part.fold()
    return own


class FirstLook(nn.Module):
    """The first cross attention; its queries LN(latent) Wq / sqrt(d) are a constant."""

    queries: Tensor
    latent: Tensor

    def __init__(self, cross: CrossLayer, latent: Tensor) -> None:
        super().__init__()
        own = deepcopy(cross)
        own.cross_attn.attention.fold()
        self.kv_norm, self.attention, self.mlp = own.cross_attn.kv_norm, own.cross_attn.attention, own.mlp
        start = latent.detach().unsqueeze(0).clone()
        queries = self.attention.q_proj(own.cross_attn.q_norm(start)).detach()
        del self.attention.q_proj
        self.register_buffer("latent", start)
        self.register_buffer("queries", queries)

    def forward(self, x: Tensor) -> Tensor:
        """Read a map (B, C, H, W): (B, N, C)."""
        tokens = self.kv_norm(x.flatten(2).transpose(1, 2))
        z = self.latent + self.attention.attend(self.queries, tokens)
        return z + self.mlp(z)


class Exchange(nn.Module):
    """The beginning of a stage after the first: fewer tokens, the map reads them, they read the map."""

    def __init__(self, trained: DynamicPerceiver, stage: int) -> None:
        super().__init__()
        self.mixer = deepcopy(trained.token_mixer[stage - 1])
        self.expander = deepcopy(trained.token_expander[stage - 1])
        self.write = fold_scales(trained.part("cross_att{}_z2x", stage))
        self.depthwise = _depthwise(trained, stage)
        self.read = fold_scales(trained.part("cross_att{}_x2z", stage))
        self.think = _think(trained, stage)

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) and (B, N, C') to the same and (B, N / 2, C)."""
        z = self.expander(self.mixer(z.transpose(1, 2)).transpose(1, 2))
        x = write_map(self.write, x, z)
        return x, self.think(read_map(self.read, z, _pool(self.depthwise(x))))


def _pool(x: Tensor) -> Tensor:
    """Mean over 7 x 7 fields of a map (B, C, H, W)."""
    return even_pool(x, (POOLED, POOLED))


def _depthwise(trained: DynamicPerceiver, stage: int) -> nn.Conv2d:
    conv = trained.part("dwc{}_x2z", stage)
    assert isinstance(conv, nn.Conv2d)
    return add_identity(deepcopy(conv))


def _think(trained: DynamicPerceiver, stage: int) -> nn.Sequential:
    return nn.Sequential(*(fold_scales(layer) for layer in trained.part("self_att{}", stage).children()))


class PartOne(nn.Module):
    """From the picture to the first exit, two stages of convolutions behind the third stage's tokens."""

    def __init__(self, trained: DynamicPerceiver) -> None:
        super().__init__()
        self.stem = folded(trained.cnn_stem)
        self.depthwise = _depthwise(trained, 0)
        first = trained.part("cross_att{}_x2z", 0)
        assert isinstance(first, CrossLayer)
        self.read = FirstLook(first, trained.latent)
        self.think = _think(trained, 0)
        self.one, self.two = (folded(trained.convolutions(stage)) for stage in (0, 1))
        self.exchange_two, self.exchange_three = Exchange(trained, 1), Exchange(trained, 2)
        self.classifier = deepcopy(trained.early_classifier3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) pixels to map, tokens and the logits y_early3."""
        x = self.stem(x)
        z = self.think(self.read(_pool(self.depthwise(x))))
        x, z = self.exchange_two(self.one(x), z)
        x, z = self.exchange_three(self.two(x), z)
        return x, z, self.classifier(z.mean(dim=1))


class PartTwo(nn.Module):
    """To the second exit."""

    def __init__(self, trained: DynamicPerceiver) -> None:
        super().__init__()
        self.three = folded(trained.convolutions(2))
        self.exchange = Exchange(trained, 3)
        self.short_cut = _short_cut(trained.isc3)
        self.classifier = deepcopy(trained.classifier_att)

    def forward(self, x: Tensor, z: Tensor, early: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map, tokens and the logits y_early3 to map, tokens and the logits y_att."""
        x, z = self.exchange(self.three(x), z)
        return x, z, self.classifier(torch.cat([z.mean(dim=1), self.short_cut(early)], dim=1))


def _short_cut(trained: nn.Module) -> nn.Module:
    linear, norm, _ = trained.children()
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    return nn.Sequential(fold_linear_norm(linear, norm), nn.ReLU())


class PartThree(nn.Module):
    """To the third exit: convolutions only."""

    def __init__(self, trained: DynamicPerceiver) -> None:
        super().__init__()
        self.four = folded(trained.convolutions(3))
        self.classifier = deepcopy(trained.classifier_cnn)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map to map and the logits y_cnn."""
        x = self.four(x)
        return x, self.classifier(x.mean(dim=(2, 3)))


class PartFour(nn.Module):
    """To the last exit."""

    def __init__(self, trained: DynamicPerceiver) -> None:
        super().__init__()
        self.write = fold_scales(trained.last_cross_att_z2x)
        self.short_cut = _short_cut(trained.isc4)
        norm, first, *rest = deepcopy(trained.classifier_merge)
        assert isinstance(norm, nn.BatchNorm1d)
        assert isinstance(first, nn.Linear)
        self.classifier = nn.Sequential(fold_norm_linear(norm, first), *rest)

    def forward(self, x: Tensor, z: Tensor, att: Tensor) -> Tensor:
        """Map, tokens and the logits y_att to the logits y_merge."""
        pooled = write_map(self.write, x, z).mean(dim=(2, 3))
        return self.classifier(torch.cat([pooled, z.mean(dim=1), self.short_cut(att)], dim=1))


class FusedPerceiver(nn.Module):
    """All four parts in a row."""

    def __init__(self, trained: DynamicPerceiver) -> None:
        super().__init__()
        self.one, self.two = PartOne(trained), PartTwo(trained)
        self.three, self.four = PartThree(trained), PartFour(trained)
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, H, W) pixels to the logits (B, K) of the four exits."""
        x, z, early = self.one(x)
        x, z, att = self.two(x, z, early)
        x, cnn = self.three(x)
        return early, att, cnn, self.four(x, z, att)
