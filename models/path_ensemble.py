"""ViT as Path Ensemble: Revisiting Vision Transformer as an Ensemble of Paths (arXiv 2308.06548).

A vision transformer of L layers is a sum of 2 L + 1 paths::

    X_0 = tokens,   p_0 = X_0
    p_(2l+1) = MSA_l(LN X),   X = X + p_(2l+1)
    p_(2l+2) = MLP_l(LN X),   X = X + p_(2l+2)        X_L = sum_i p_i

EnsembleScale weighs the paths in what the classifier sees, and path pruning leaves some out there, while the
stream X that feeds the layers stays as it was::

    logits = head(LN(sum over kept i of s_i * p_i[class token]))

With all s_i one and nothing pruned these are the very additions of the vision transformer, bit for bit. That
the stream stays unchanged and that s_i has one entry for each channel is inferred: no code is public.

Folds of the deploy form, exact: only the class token is classified, so behind the last kept path nothing is
computed, and the layer of that path only for the class token; 1 / sqrt(d) goes into the queries, the bias of
the patch convolution into the position table, and the class token is one constant with its position.

Axis letters: B batch, C channels, H height, W width, N tokens, D width of a token, P paths, K classes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import BuildError
from .fuse_modules import linear_of, scale_linear
from .image_sets import FASHION_LABELS, FASHION_MNIST, IMAGENET
from .path_ensemble_deploy import FusedAttention, FusedBlock, FusedPathEnsemble, attend, weighted
from .registry import register
from .spec import ModelSpec, Preprocess, TensorSpec


@dataclass(frozen=True)
class PathConfig:
    """Sizes of one member of the family."""

    dim: int
    heads: int
    depth: int = 12
    size: int = 224
    patch: int = 16
    channels: int = 3
    classes: int = 1000
    kept: tuple[int, ...] | None = None
    """Paths that the classifier sees; None keeps all."""

    @property
    def paths(self) -> tuple[int, ...]:
        """The kept paths in the order they are computed."""
        return tuple(range(2 * self.depth + 1)) if self.kept is None else tuple(sorted(self.kept))


class Attention(nn.Module):
    """Multi-head attention between all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scale = (x.shape[2] // self.heads) ** -0.5
        return self.proj(attend(q * scale, k, v, self.heads))

    def fused(self) -> FusedAttention:
        """Fold the scale into the queries, and take them apart from keys and values."""
        weights = zip(self.qkv.weight.detach().chunk(3), self.qkv.bias.detach().chunk(3), strict=True)
        q, k, v = (linear_of(w.clone(), b.clone()) for w, b in weights)
        scale = q.weight.new_full(
            (q.out_features,), (q.out_features // self.heads) ** -0.5, dtype=torch.float64
        )
        kv = linear_of(torch.cat((k.weight, v.weight)).detach(), torch.cat((k.bias, v.bias)).detach())
        return FusedAttention(scale_linear(q, scale), kv, deepcopy(self.proj), self.heads)


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """The two paths of one layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def fused(self) -> FusedBlock:
        """Fold the attention."""
        return FusedBlock(self.attn.fused(), *deepcopy([self.norm1, self.norm2, self.mlp]))


class Patches(nn.Module):
    """The patch convolution, under the name it has in public checkpoints."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, N, D)."""
        return self.proj(x).flatten(2).mT


class Vit(nn.Module):
    """The vision transformer itself; parameter names are those of public checkpoints."""

    def __init__(self, config: PathConfig) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embed = Patches(config.channels, dim, config.patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, (config.size // config.patch) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(Block(dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, config.classes)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, N, D), the class token first."""
        patches = self.patch_embed(x)
        return torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1) + self.pos_embed

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class PathEnsemble(nn.Module):
    """A vision transformer whose classifier sees a weighted sum of the kept paths."""

    def __init__(self, config: PathConfig) -> None:
        super().__init__()
        self.paths = config.paths
        if not self.paths or not 0 < self.paths[-1] <= 2 * config.depth or self.paths[0] < 0:
            message = (
                f"expected paths from 0 to {2 * config.depth}, at least one above 0, got {self.paths}; "
                "the tokens alone tell nothing of the picture to the class token"
            )
            raise BuildError(message)
        self.model = Vit(config)
        self.scales = nn.Parameter(torch.ones(2 * config.depth + 1, config.dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        stream = self.model.embed(x)
        found = [stream]
        for block in self.model.blocks:
            assert isinstance(block, Block)
            found.append(block.attn(block.norm1(stream)))
            stream = stream + found[-1]
            found.append(block.mlp(block.norm2(stream)))
            stream = stream + found[-1]
        return self.model.head(self.model.norm(weighted(found, self.scales, self.paths)))

    def fused(self) -> FusedPathEnsemble:
        """Drop what no kept path needs, and fold the constants."""
        own = deepcopy(self.model)
        conv, last = own.patch_embed.proj, self.paths[-1]
        bias, conv.bias = conv.bias, None
        assert bias is not None
        blocks = [block.fused() for block in own.blocks if isinstance(block, Block)]
        return FusedPathEnsemble(
            conv,
            class_token=(own.cls_token + own.pos_embed[:, :1]).detach(),
            positions=(own.pos_embed[:, 1:] + bias).detach(),
            blocks=blocks[: (last + 1) // 2],
            scales=self.scales.detach()[: last + 1].clone(),
            paths=self.paths,
            norm=own.norm,
            head=own.head,
        ).eval()


TINY = PathConfig(dim=192, heads=3)
SMALL = PathConfig(dim=384, heads=6)
BASE = PathConfig(dim=768, heads=12)
NANO = PathConfig(dim=96, heads=4, depth=4, size=28, patch=4, channels=1, classes=10)
PRUNED = replace(NANO, kept=(0, 1, 2, 3, 4, 5, 7))
"""Without the MLPs of the last two layers."""

PAPER = "Revisiting Vision Transformer from the View of Path Ensemble, arXiv 2308.06548"
CHECKED = (
    "equal to timm's vision transformer at 1e-5 with randomised weights when all scales are one; "
    "how paths are weighed is inferred"
)


def _published(name: str, config: PathConfig, preprocess: Preprocess = IMAGENET) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(PathEnsemble, config),
        inputs=(TensorSpec("image", ("batch", config.channels, config.size, config.size)),),
        paper=PAPER,
        checked=CHECKED,
        preprocess=preprocess,
    )


def _nano(name: str, config: PathConfig) -> ModelSpec:
    spec = _published(name, config, FASHION_MNIST)
    paper = f"the ensemble of {PAPER}, at a size of our own"
    return replace(spec, paper=paper, weights=None, labels=FASHION_LABELS, dataset="fashion_mnist")


@register
def path_vit_ti() -> ModelSpec:
    """ViT-Ti/16 with EnsembleScale."""
    return _published("path_vit_ti", TINY)


@register
def path_vit_s() -> ModelSpec:
    """ViT-S/16 with EnsembleScale."""
    return _published("path_vit_s", SMALL)


@register
def path_vit_b() -> ModelSpec:
    """ViT-B/16 with EnsembleScale."""
    return _published("path_vit_b", BASE)


@register
def path_vit_nano() -> ModelSpec:
    """A small sibling for 28x28 grey images."""
    spec = _nano("path_vit_nano", NANO)
    return replace(spec, checked=f"{CHECKED}; scored on Fashion-MNIST", weights="path_vit_nano.safetensors")


@register
def path_vit_pruned_nano() -> ModelSpec:
    """As ``path_vit_nano`` without the MLPs of the last two layers in the ensemble."""
    return _nano("path_vit_pruned_nano", PRUNED)
