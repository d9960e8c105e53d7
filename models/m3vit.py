"""M3ViT: Mixture-of-Experts Vision Transformer for multi-task learning (arXiv 2210.14793).

A vision transformer whose odd blocks have E experts instead of an MLP, and per task t a gate of its own::

    s = softmax(x G_t),   y = sum of s_e expert_e(x) over the K best e,   expert_e(x) = W2_e GELU(W1_e x)

The weights of the K best are not renormalised. The task is an input, one per picture: the backbone runs once
for each task that is wanted, and pictures of one batch may want different ones. A decoder belongs to a task::

    4 times: relu(BN(conv_3(x))), then twice as large by interpolation; a 1x1 convolution before the last

so a network with a decoder is built for one task, and holds the gates of this task only. A doubling undoes a
half of the patches' side; for patches of fewer than 16 pixels the first convolutions are not followed by one.

The trained form computes all experts for all tokens. The deploy form sorts pairs of token and expert into
tiles (``routing``) and computes those only: K N pairs and less than one tile per expert more, instead of E N,
with constant shapes for every routing. Also folded: the scale of the logits into the queries' weights, the
patches' bias into the positions, the first position into the class token, batch norms into convolutions, and
all gates into one table.

Axis letters: B batch, C width of a token, N tokens with the class token, H height, W width, E experts,
K experts of a token.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import fold_conv_norm
from .image_sets import CIFAR10
from .m3vit_blocks import Block, M3VitConfig
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, Preprocess, TensorSpec


class Patches(nn.Module):
    """A convolution to patches."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, N - 1, C)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class Backbone(nn.Module):
    """The transformer; parameter names are those of the public checkpoints."""

    def __init__(self, config: M3VitConfig) -> None:
        super().__init__()
        tokens = config.grid[0] * config.grid[1] + 1
        self.patch_embed = Patches(config.dim, config.patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens, config.dim))
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.depth))

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, 3, H, W) pixels and (B,) tasks to the tokens (B, N, C) of the last block."""
        return self.levels(x, task)[-1]

    def levels(self, x: Tensor, task: Tensor) -> list[Tensor]:
        """Give the tokens after every block."""
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        levels: list[Tensor] = []
        for block in self.blocks:
            x = block(x, task)
            levels.append(x)
        return levels

    def fused(self) -> FusedBackbone:
        """Fold everything that the module's docstring names."""
        return FusedBackbone(self)


class FusedBackbone(nn.Module):
    """The deploy form of the transformer."""

    first: Tensor
    position: Tensor

    def __init__(self, trained: Backbone) -> None:
        super().__init__()
        self.proj = deepcopy(trained.patch_embed.proj)
        assert self.proj.bias is not None
        places = trained.pos_embed.detach()
        self.register_buffer("first", trained.cls_token.detach() + places[:, :1])
        self.register_buffer("position", places[:, 1:] + self.proj.bias.detach())
        self.proj.bias = None
        folded: list[nn.Module] = []
        for block in trained.blocks:
            assert isinstance(block, Block)
            folded.append(block.fused())
        self.blocks = nn.ModuleList(folded)
        self.eval()

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, 3, H, W) pixels and (B,) tasks to tokens (B, N, C)."""
        x = self.proj(x).flatten(2).transpose(1, 2) + self.position
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x, task)
        return x


class Decoder(nn.Module):
    """From tokens to a map of the size of the picture, for one task."""

    def __init__(self, config: M3VitConfig, outputs: int) -> None:
        super().__init__()
        self.grid = config.grid
        self.first_doubled = 4 - int(math.log2(config.patch))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        for i in range(4):
            channels = config.decoder if i else config.dim
            self.add_module(f"conv_{i}", nn.Conv2d(channels, config.decoder, 3, padding=1))
            self.add_module(f"syncbn_fc_{i}", nn.BatchNorm2d(config.decoder))
        self.conv_4 = nn.Conv2d(config.decoder, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) tokens to (B, outputs, H, W)."""
        x = self.norm(x[:, 1:]).transpose(1, 2).reshape(-1, x.shape[2], *self.grid)
        for i in range(4):
            x = F.relu(self.get_submodule(f"syncbn_fc_{i}")(self.get_submodule(f"conv_{i}")(x)))
            x = self.conv_4(x) if i == 3 else x
            if i >= self.first_doubled:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x

    def fused(self) -> Decoder:
        """Fold the batch norms into their convolutions."""
        own = deepcopy(self)
        for i in range(4):
            conv, norm = own.get_submodule(f"conv_{i}"), own.get_submodule(f"syncbn_fc_{i}")
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            own.add_module(f"conv_{i}", fold_conv_norm(conv, norm))
            own.add_module(f"syncbn_fc_{i}", nn.Identity())
        return own.eval()


class OneTask(nn.Module):
    """Backbone and decoder of one task; the backbone has this task's gates only."""

    def __init__(self, config: M3VitConfig, outputs: int) -> None:
        super().__init__()
        self.backbone: nn.Module = Backbone(config)
        self.decoder = Decoder(config, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) pixels to (B, outputs, H, W)."""
        task = torch.zeros_like(x[:, 0, 0, 0], dtype=torch.int64)
        return self.decoder(self.backbone(x, task))

    def fused(self) -> OneTask:
        """Fold both."""
        own = deepcopy(self)
        assert isinstance(self.backbone, Backbone)
        own.backbone, own.decoder = self.backbone.fused(), self.decoder.fused()
        return own.eval()


SMALL_PASCAL = M3VitConfig((512, 512), 384, tasks=5)
SMALL_NYUD = M3VitConfig((480, 640), 384, tasks=2)
BASE_PASCAL = M3VitConfig((512, 512), 768, tasks=5)
SMALL_SEMSEG = M3VitConfig((512, 512), 384, tasks=1)
NANO = M3VitConfig((32, 32), 64, tasks=2, depth=4, heads=4, experts=8, top_k=4, patch=4)
NANO_SEMSEG = replace(NANO, tasks=1, decoder=48)
PASCAL_CLASSES = 21
PASTED_CLASSES = 11
"""A photograph of CIFAR-10, and the ten kinds of items of Fashion-MNIST pasted over it."""

PAPER = "M3ViT: Mixture-of-Experts Vision Transformer for Multi-task Learning, arXiv 2210.14793"
NORMALISED = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="stretch")


def _backbone(name: str, config: M3VitConfig, params: int | None = None) -> ModelSpec:
    published = params is not None
    return ModelSpec(
        name=name,
        build=partial(Backbone, config),
        inputs=(
            TensorSpec("image", ("batch", 3, *config.size)),
            TensorSpec("task", ("batch",), "int64", high=config.tasks),
        ),
        outputs=("tokens",),
        paper=PAPER if published else f"the blocks of {PAPER}, at a size of our own",
        licence="MIT",
        checked=EQUAL_OUTPUTS if published else "forward written from the formulae",
        params=params,
    )


@register
def m3vit_nano() -> ModelSpec:
    """A small sibling for two tasks on 32x32 pictures; four of eight experts are selected."""
    return _backbone("m3vit_nano", NANO)


@register
def m3vit_nano_semseg() -> ModelSpec:
    """A small sibling with the decoder of one task, segmentation of 32x32 pictures into 11 classes."""
    return ModelSpec(
        name="m3vit_nano_semseg",
        build=partial(OneTask, NANO_SEMSEG, PASTED_CLASSES),
        inputs=(TensorSpec("image", ("batch", 3, *NANO_SEMSEG.size)),),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="MIT",
        checked="forward written from the formulae; scored by the items pasted over CIFAR-10",
        weights="m3vit_nano_semseg.safetensors",
        preprocess=CIFAR10,
    )


@register
def m3vit_small_pascal() -> ModelSpec:
    """M3ViT-S, backbone for the five tasks of PASCAL-Context, 43.5 M parameters."""
    return _backbone("m3vit_small_pascal", SMALL_PASCAL, 43_463_040)


@register
def m3vit_small_nyud() -> ModelSpec:
    """M3ViT-S, backbone for the two tasks of NYUD, 43.4 M parameters."""
    return _backbone("m3vit_small_nyud", SMALL_NYUD, 43_420_032)


@register
def m3vit_base_pascal() -> ModelSpec:
    """M3ViT-B, backbone for the five tasks of PASCAL-Context, 171.9 M parameters."""
    return _backbone("m3vit_base_pascal", BASE_PASCAL, 171_860_736)


@register
def m3vit_small_semseg() -> ModelSpec:
    """M3ViT-S with the gates and the decoder of one task, segmentation into 21 classes."""
    return ModelSpec(
        name="m3vit_small_semseg",
        build=partial(OneTask, SMALL_SEMSEG, PASCAL_CLASSES),
        inputs=(TensorSpec("image", ("batch", 3, *SMALL_SEMSEG.size)),),
        paper=PAPER,
        licence="MIT",
        checked=f"{EQUAL_OUTPUTS}, backbone with decoder",
        preprocess=NORMALISED,
    )
