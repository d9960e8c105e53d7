"""M3ViT: Mixture-of-Experts Vision Transformer for multi-task learning (arXiv 2210.14793).

A vision transformer whose odd blocks have E experts instead of an MLP, and per task t a gate of its own::

    s = softmax(x G_t),   y = sum of s_e expert_e(x) over the K best e,   expert_e(x) = W2_e GELU(W1_e x)

The weights of the K best are not renormalised. The task is an input, one per picture: the backbone runs once
for each task that is wanted, and pictures of one batch may want different ones. A decoder belongs to a task::

    4 times: relu(BN(conv_3(x))), then twice as large by interpolation; a 1x1 convolution before the last

so a network with a decoder is built for one task, and holds the gates of this task only.

The trained form computes all experts for all tokens. The deploy form sorts pairs of token and expert into
tiles (``routing``) and computes those only: K N pairs and less than one tile per expert more, instead of E N,
with constant shapes for every routing. Also folded: the scale of the logits into the queries' weights, the
patches' bias into the positions, the first position into the class token, batch norms into convolutions, and
all gates into one table.

Axis letters: B batch, C width of a token, N tokens with the class token, H height, W width, E experts,
K experts of a token, F width inside an expert, M tiles, T slots of a tile.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import fold_conv_norm
from .registry import register
from .routing import gather_back, spread, take_groups, take_rows, tile_up
from .spec import ModelSpec, Preprocess, TensorSpec


@dataclass(frozen=True)
class M3VitConfig:
    """Sizes of one member of the family."""

    size: tuple[int, int]
    """Height and width in pixels; the network takes no others."""
    dim: int
    tasks: int
    depth: int = 12
    heads: int = 12
    experts: int = 16
    top_k: int = 4
    expert_ratio: int = 1
    mlp_ratio: int = 4
    patch: int = 16
    decoder: int = 256
    """Width of a decoder."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row."""
        return self.size[0] // self.patch, self.size[1] // self.patch


class Attention(nn.Module):
    """Plain attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale: float | None = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        q, k, v = (self._split(t) for t in self.qkv(x).chunk(3, dim=-1))
        q = q if self.scale is None else q * self.scale
        mixed = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, t: Tensor) -> Tensor:
        return t.reshape(-1, t.shape[1], self.heads, t.shape[2] // self.heads).transpose(1, 2)

    def fused(self) -> Attention:
        """Fold the scale into the weights of the queries."""
        own = deepcopy(self)
        if own.scale is not None:
            for value in (own.qkv.weight.data, own.qkv.bias.data):
                queries = value[: len(value) // 3]
                queries.copy_(queries.double() * own.scale)
        own.scale = None
        return own


class Mlp(nn.Module):
    """Linear, GELU, linear; the same for every task."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))

    def fused(self) -> Mlp:
        """Copy the layers."""
        return deepcopy(self)


class ExpertLinear(nn.Module):
    """One linear layer per expert: weights (E, out, in) and biases (E, out)."""

    def __init__(self, experts: int, size: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, out, size) * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(experts, out))


class Experts(nn.Module):
    """The two layers of every expert."""

    def __init__(self, experts: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.htoh4 = ExpertLinear(experts, dim, hidden)
        self.h4toh = ExpertLinear(experts, hidden, dim)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Sum all experts' answers to (B, N, C), weighted by (B, N, E): (B, N, C)."""
        total = torch.zeros_like(x)
        layers = (self.htoh4.weight, self.htoh4.bias, self.h4toh.weight, self.h4toh.bias)
        for e, (w1, b1, w2, b2) in enumerate(zip(*layers, strict=True)):
            total = total + weights[..., e : e + 1] * F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)
        return total


class TaskGate(nn.Module):
    """The gate of one task."""

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.w_gate = nn.Parameter(torch.randn(dim, experts) * dim**-0.5)


def select_experts(x: Tensor, gates: Tensor, task: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Choose experts for tokens.

    Args:
        x: (B, N, C).
        gates: (tasks, C, E).
        task: (B,).
        top_k: K.

    Returns:
        Weights and numbers of the experts, both (B, N, K).
    """
    scores = (x @ take_groups(gates, task)).softmax(dim=-1)
    best, chosen = scores.topk(top_k, dim=-1)
    return best, chosen


class ExpertMlp(nn.Module):
    """Experts behind gates, as they are trained."""

    def __init__(self, config: M3VitConfig) -> None:
        super().__init__()
        self.top_k, self.count = config.top_k, config.experts
        self.experts = Experts(config.experts, config.dim, config.expert_ratio * config.dim)
        self.gate = nn.ModuleList(TaskGate(config.dim, config.experts) for _ in range(config.tasks))

    def gates(self) -> Tensor:
        """Stack the gates: (tasks, C, E)."""
        return torch.stack([gate.get_parameter("w_gate") for gate in self.gate])

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) and (B,) to (B, N, C)."""
        best, chosen = select_experts(x, self.gates(), task, self.top_k)
        return self.experts(x, spread(chosen, best, self.count))

    def fused(self) -> TiledExperts:
        """Compute selected pairs of token and expert only."""
        return TiledExperts(self)


class TiledExperts(nn.Module):
    """The deploy form: every tile holds tokens of one expert, and takes this expert's weights."""

    gates: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, trained: ExpertMlp) -> None:
        super().__init__()
        self.top_k, self.count = trained.top_k, trained.count
        first, second = trained.experts.htoh4, trained.experts.h4toh
        self.register_buffer("gates", trained.gates().detach().clone())
        for i, layer in enumerate((first, second), start=1):
            self.register_buffer(f"w{i}", layer.weight.detach().transpose(1, 2).contiguous())
            self.register_buffer(f"b{i}", layer.bias.detach().unsqueeze(1).clone())

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) and (B,) to (B, N, C)."""
        best, chosen = select_experts(x, self.gates, task, self.top_k)
        tiles = tile_up(chosen, self.count, tile_for_experts(x.shape[1]))
        w1, b1, w2, b2 = (take_groups(t, tiles.group) for t in (self.w1, self.b1, self.w2, self.b2))
        hidden = F.gelu(take_rows(x, tiles.token) @ w1 + b1)  # (B, M, T, F)
        return gather_back(hidden @ w2 + b2, tiles, best)


def tile_for_experts(tokens: int) -> int:
    """Choose how many slots a tile has: about an eighth of the tokens, for an expert's weights are large."""
    return max(4, 2 ** (tokens // 8).bit_length() // 2)


class Block(nn.Module):
    """x + attend(LN(x)), then x + MLP or experts (LN(x))."""

    def __init__(self, config: M3VitConfig, index: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        dense = Mlp(config.dim, config.mlp_ratio * config.dim)
        self.mlp: nn.Module = ExpertMlp(config) if index % 2 else dense

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, N, C) and (B,) to (B, N, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x), task)

    def fused(self) -> Block:
        """Fold both branches."""
        own = deepcopy(self)
        own.attn = self.attn.fused()
        assert isinstance(self.mlp, Mlp | ExpertMlp)
        own.mlp = self.mlp.fused()
        return own


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
PASCAL_CLASSES = 21

PAPER = "M3ViT: Mixture-of-Experts Vision Transformer for Multi-task Learning, arXiv 2210.14793"
NORMALISED = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="stretch")


def _published(name: str, config: M3VitConfig, params: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(Backbone, config),
        inputs=(
            TensorSpec("image", ("batch", 3, *config.size)),
            TensorSpec("task", ("batch",), "int64"),
        ),
        outputs=("tokens",),
        paper=PAPER,
        licence="MIT",
        checked="exact count of the backbone, forward written from the formulae",
        params=params,
    )


@register
def m3vit_small_pascal() -> ModelSpec:
    """M3ViT-S, backbone for the five tasks of PASCAL-Context, 43.5 M parameters."""
    return _published("m3vit_small_pascal", SMALL_PASCAL, 43_463_040)


@register
def m3vit_small_nyud() -> ModelSpec:
    """M3ViT-S, backbone for the two tasks of NYUD, 43.4 M parameters."""
    return _published("m3vit_small_nyud", SMALL_NYUD, 43_420_032)


@register
def m3vit_base_pascal() -> ModelSpec:
    """M3ViT-B, backbone for the five tasks of PASCAL-Context, 171.9 M parameters."""
    return _published("m3vit_base_pascal", BASE_PASCAL, 171_860_736)


@register
def m3vit_small_semseg() -> ModelSpec:
    """M3ViT-S with the gates and the decoder of one task, segmentation into 21 classes."""
    return ModelSpec(
        name="m3vit_small_semseg",
        build=partial(OneTask, SMALL_SEMSEG, PASCAL_CLASSES),
        inputs=(TensorSpec("image", ("batch", 3, *SMALL_SEMSEG.size)),),
        paper=PAPER,
        licence="MIT",
        checked="forward written from the formulae; interpolation without aligned corners is an assumption",
        preprocess=NORMALISED,
    )
