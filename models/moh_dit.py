"""MoH-DiT: diffusion transformers (arXiv 2212.09748) with Mixture-of-Head attention (arXiv 2410.11842).

One step of denoising. With c = MLP([cos(t f), sin(t f)]) + table[label], per block SiLU(c) W = (s1, m1, g1,
s2, m2, g2), and LN without weights::

    x = x + g1 attend(LN(x) (1 + m1) + s1)
    x = x + g2 MLP(LN(x) (1 + m2) + s2)

Attention is plain, with heads weighted token by token (``routing``). The large sizes have fewer heads in the
first layers and more in the last ones, all of one width, so that queries are narrower or wider than tokens.

Folds of the deploy form: the 1 of (1 + m) into the bias behind it, the scale of the logits into the queries'
weights, the bias of the patches into the position table, all gates of an attention into one layer, SiLU(c)
once for all blocks. ``skip`` takes the form in tiles instead, which computes a routed head only for the
tokens that select it; keys and values are computed for all heads in both.

The paper starts every W and the last layer at zero, so that an untrained network answers zero and two wrong
ones agree; here they start random.

Axis letters: B batch, C width of a token, N tokens, A heads, D width of a head, H height and W width of the
latent image, P pixels a side of a patch.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from .fuse_modules import linear_of
from .moh_dit_blocks import (
    Attention,
    Block,
    FinalLayer,
    LabelEmbedding,
    MohDitConfig,
    Patches,
    TimeEmbedding,
    modulate,
    positions,
    to_image,
)
from .registry import register
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec


class MohDit(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: MohDitConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = Patches(config.channels, config.dim, config.patch)
        self.t_embedder = TimeEmbedding(config.dim)
        self.y_embedder = LabelEmbedding(config.classes, config.dim)
        table = positions(config.size // config.patch, config.dim)
        self.pos_embed = nn.Parameter(table.unsqueeze(0), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(len(config.heads)))
        self.final_layer = FinalLayer(config.dim, 2 * config.channels * config.patch**2)
        self.apply(_initialise)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict noise and variance.

        Args:
            x: (B, channels, H, W), the noisy latent image.
            t: (B,), time steps.
            y: (B,), classes.

        Returns:
            (B, 2 channels, H, W).
        """
        condition = self.t_embedder(t) + self.y_embedder(y)
        x = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            x = block(x, condition)
        return to_image(self.final_layer(x, condition), self.config)

    def fused(self) -> FusedMohDit:
        """Fold everything that the module's docstring names."""
        return FusedMohDit(self)


class FusedMohDit(nn.Module):
    """The deploy form of the whole network."""

    position: Tensor

    def __init__(self, trained: MohDit) -> None:
        super().__init__()
        own = deepcopy(trained)
        self.config, self.patches = own.config, own.x_embedder.proj
        assert self.patches.bias is not None
        position = own.pos_embed.detach() + self.patches.bias.detach()
        self.register_buffer("position", position.transpose(1, 2).clone())
        self.patches.bias = None
        self.t_embedder, self.y_embedder, self.blocks = own.t_embedder, own.y_embedder, own.blocks
        self.linear = own.final_layer.linear
        for block in self.blocks:
            assert isinstance(block, Block)
            assert isinstance(block.attn, Attention)
            block.attn = block.attn.fused()
            block.adaLN_modulation = _with_ones(block.adaLN_modulation, (1, 4))
        self.modulation = _with_ones(own.final_layer.adaLN_modulation, (1,))
        self.eval()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict noise and variance; arguments and result as those of the trained form."""
        condition = F.silu(self.t_embedder(t) + self.y_embedder(y))
        x = (self.patches(x).flatten(2) + self.position).transpose(1, 2)
        for block in self.blocks:
            assert isinstance(block, Block)
            x = block.steps(x, block.adaLN_modulation(condition), 0)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return to_image(self.linear(modulate(x, shift, scale)), self.config)


def _with_ones(modulation: nn.Sequential, scales: tuple[int, ...]) -> nn.Sequential:
    """Drop SiLU and add one to the bias of the scales, the given parts of C outputs each."""
    _, linear = deepcopy(modulation)
    assert isinstance(linear, nn.Linear)
    bias = linear.bias.detach().clone()
    for part in scales:
        bias[part * linear.in_features : (part + 1) * linear.in_features] += 1
    return nn.Sequential(linear_of(linear.weight.detach(), bias))


def _initialise(module: nn.Module) -> None:
    """Xavier's rule for linear layers, a small normal for the classes, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        for name, value in module.named_parameters():
            if name == "bias":
                nn.init.zeros_(value)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def _runs(*runs: tuple[int, int]) -> tuple[int, ...]:
    """Write (value, how often) out."""
    return tuple(value for value, times in runs for _ in range(times))


_XL = _runs((8, 9), (16, 10), (24, 9))
_L = _runs((8, 8), (16, 8), (24, 8))
XL_90 = MohDitConfig(1152, 72, _XL, _runs((8, 9), (16, 19)), _runs((0, 19), (3, 9)))
XL_75 = MohDitConfig(1152, 72, _XL, _runs((8, 9), (10, 10), (14, 9)), _runs((0, 9), (2, 19)))
L_90 = MohDitConfig(1024, 64, _L, _runs((8, 8), (16, 16)), _runs((0, 16), (3, 8)))
L_75 = MohDitConfig(1024, 64, _L, _runs((8, 16), (12, 8)), _runs((0, 8), (4, 16)))
B_90 = MohDitConfig(768, 64, (12,) * 12, _runs((6, 5), (7, 5), (12, 2)), _runs((4, 10), (0, 2)))
B_75 = MohDitConfig(768, 64, (12,) * 12, _runs((4, 2), (6, 8), (12, 2)), _runs((2, 2), (3, 8), (0, 2)))
S_90 = MohDitConfig(384, 64, (6,) * 12, _runs((3, 8), (6, 4)), _runs((2, 8), (0, 4)))
S_75 = MohDitConfig(384, 64, (6,) * 12, _runs((2, 2), (3, 8), (6, 2)), _runs((1, 6), (2, 4), (0, 2)))
NANO = MohDitConfig(64, 16, (4,) * 4, _runs((2, 3), (4, 1)), _runs((1, 3), (0, 1)), size=8, classes=10)

COMPARED = (S_90, S_75, B_75)
PAPER = "MoH: Multi-Head Attention as Mixture-of-Head Attention, arXiv 2410.11842"
AS_COMPARED = "exact count and names; the code of moh_dit_s_90 and moh_dit_b_75 at another size"


def _published(name: str, config: MohDitConfig, params: int) -> ModelSpec:
    spec = _spec(name, config, PAPER, EQUAL_OUTPUTS if config in COMPARED else AS_COMPARED)
    return replace(spec, params=params)


def _nano(name: str, config: MohDitConfig) -> ModelSpec:
    paper = f"the blocks of {PAPER}, at a size of our own"
    checked = "forward written from the formulae; scored by the noise it tells in Fashion-MNIST"
    return replace(_spec(name, config, paper, checked), weights="moh_dit_nano.safetensors")


def _spec(name: str, config: MohDitConfig, paper: str, checked: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(MohDit, config),
        inputs=(
            TensorSpec("latent", ("batch", config.channels, config.size, config.size)),
            TensorSpec("timestep", ("batch",)),
            TensorSpec("label", ("batch",), "int64", high=config.classes),
        ),
        outputs=("prediction",),
        paper=paper,
        licence="Apache-2.0 (MoH); the DiT it builds on has its own",
        checked=checked,
    )


@register
def moh_dit_nano() -> ModelSpec:
    """A small sibling for latent images of 8x8 and ten classes; three quarters of its heads are selected."""
    return _nano("moh_dit_nano", NANO)


@register
def moh_dit_nano_skip() -> ModelSpec:
    """The same network, deployed so that a token's unselected heads are not computed."""
    return _nano("moh_dit_nano_skip", replace(NANO, skip=True))


@register
def moh_dit_s_90() -> ModelSpec:
    """MoH-DiT-S/2, nine tenths of the heads selected, 33.0 M parameters."""
    return _published("moh_dit_s_90", S_90, 32_997_152)


@register
def moh_dit_s_75() -> ModelSpec:
    """MoH-DiT-S/2, three quarters of the heads selected, 33.0 M parameters."""
    return _published("moh_dit_s_75", S_75, 32_998_688)


@register
def moh_dit_s_75_skip() -> ModelSpec:
    """The same network, deployed so that a token's unselected heads are not computed."""
    return _published("moh_dit_s_75_skip", replace(S_75, skip=True), 32_998_688)


@register
def moh_dit_b_90() -> ModelSpec:
    """MoH-DiT-B/2, nine tenths of the heads selected, 130.6 M parameters."""
    return _published("moh_dit_b_90", B_90, 130_638_368)


@register
def moh_dit_b_75() -> ModelSpec:
    """MoH-DiT-B/2, three quarters of the heads selected, 130.6 M parameters."""
    return _published("moh_dit_b_75", B_75, 130_638_368)


@register
def moh_dit_l_90() -> ModelSpec:
    """MoH-DiT-L/2, nine tenths of the heads selected, 458.5 M parameters."""
    return _published("moh_dit_l_90", L_90, 458_512_416)


@register
def moh_dit_l_75() -> ModelSpec:
    """MoH-DiT-L/2, three quarters of the heads selected, 458.5 M parameters."""
    return _published("moh_dit_l_75", L_75, 458_528_800)


@register
def moh_dit_xl_90() -> ModelSpec:
    """MoH-DiT-XL/2, nine tenths of the heads selected, 675.7 M parameters."""
    return _published("moh_dit_xl_90", XL_90, 675_666_464)


@register
def moh_dit_xl_75() -> ModelSpec:
    """MoH-DiT-XL/2, three quarters of the heads selected, 675.7 M parameters."""
    return _published("moh_dit_xl_75", XL_75, 675_689_504)
