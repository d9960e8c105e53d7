"""RSMamba: Remote Sensing Image Classification with State Space Model (Chen et al., arXiv 2403.19654).

Overlapping patches become L tokens plus a learned position. Every layer reads them along three paths
pi_1 = forward, pi_2 = reverse, pi_3 = shuffled, with one mixer F and a pre-norm LN that *all layers* share::

    y_k = F(LN(x)[pi_k]) brought back into place
    g   = softmax(Wg [mean y_1, mean y_2, mean y_3])       means over tokens
    x   = x + sum of g_k y_k

The mixer is that of Mamba, with W's linear, DW4 a causal depth-wise convolution over four tokens::

    u, z = W_in x,   u = SiLU(DW4(u)),   r, b, c = W_x u,   dt = softplus(W_dt r)
    F(x) = W_out((scan(dt u, dt, -exp(A_log), b, c) + D u) * SiLU(z))

The public code draws a new shuffle in every layer at every call, so its answers change from call to call.
Here each layer has one fixed shuffle, drawn from ``order_seed``.

Folds of the deploy form, all exact. What works on each token alone commutes with the order of tokens, and
what is linear commutes with means and sums over paths, so W_in and SiLU(z) run once, not three times, and::

    sum of g_k W_out p_k = W_out (sum of g_k p_k),      Wg [mean of W_out p_k] = [Wg_k W_out] [mean of p_k]

Besides, -exp(A_log) is a constant, one gather makes all three paths, and tokens are the first axis
throughout, as the scan wants them, so that nothing is transposed.

Axis letters: B batch, C channels, H height, W width, L tokens, D width of a token, I inner width, N states,
R rank of the step size, T taps of the convolution, K classes, P = 3 paths.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .image_sets import FASHION_LABELS, FASHION_MNIST, IMAGENET
from .registry import register
from .rsmamba_deploy import FusedLayer, FusedRsMamba
from .scan import initialise_steps, selective_scan
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec


@dataclass(frozen=True)
class RsMambaConfig:
    """Sizes of one member of the family."""

    depth: int
    dim: int
    size: int = 224
    """Pixels per side; the network takes no other size."""
    patch: int = 16
    stride: int = 8
    states: int = 16
    channels: int = 3
    classes: int = 21
    order_seed: int = 0
    """Of the shuffled path of every layer."""

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return math.ceil(self.size / self.stride) ** 2

    @property
    def padding(self) -> int:
        """Pixels added at the right and at the bottom so that the last patch is whole."""
        side = math.ceil(self.size / self.stride)
        return (side - 1) * self.stride + self.patch - self.size

    @property
    def rank(self) -> int:
        """Rank of the step size."""
        return math.ceil(self.dim / 16)


class Patches(nn.Module):
    """Overlapping patches as tokens; padded at the lower right corner only."""

    def __init__(self, config: RsMambaConfig) -> None:
        super().__init__()
        self.padding = config.padding
        self.projection = nn.Conv2d(config.channels, config.dim, config.patch, config.stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, L, D)."""
        padded = F.pad(x, (0, self.padding, 0, self.padding))
        return self.projection(padded).flatten(2).transpose(1, 2)


class Mixer(nn.Module):
    """Mamba's block: gate, causal convolution, selective scan."""

    def __init__(self, dim: int, states: int, rank: int) -> None:
        super().__init__()
        inner = 2 * dim
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.sizes = (rank, states, states)
        initialise_steps(self.dt_proj)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to the same shape; a token sees itself and those before it."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u.mT)[..., : x.shape[1]].mT)
        dt, b, c = self.x_proj(u).split(self.sizes, dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        a = -self.A_log.exp().mT
        driven, dt, b, c = (t.transpose(0, 1) for t in (dt * u, dt, b, c))
        y = selective_scan(driven, dt, a, b, c).transpose(0, 1)
        return self.out_proj((y + self.D * u) * F.silu(z))


class Backbone(nn.Module):
    """Everything but the classifier."""

    order: Tensor
    """(N layers, L, P): which token a path reads at each step."""

    def __init__(self, config: RsMambaConfig) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embed = Patches(config)
        self.pos_embed = nn.Parameter(torch.empty(1, config.tokens, dim))
        self.pre_norm = nn.LayerNorm(dim, eps=1e-6)
        self.layers = nn.ModuleList(Mixer(dim, config.states, config.rank) for _ in range(config.depth))
        gates = (
            nn.Sequential(nn.Linear(3 * dim, 3, bias=False), nn.Softmax(-1)) for _ in range(config.depth)
        )
        self.gate_layers = nn.ModuleList(gates)
        self.ln1 = nn.LayerNorm(dim, eps=1e-6)
        self.ln2 = nn.LayerNorm(dim, eps=1e-6)
        self.register_buffer("order", paths(config.depth, config.tokens, config.order_seed), persistent=False)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, D) features."""
        x = self.patch_embed(x) + self.pos_embed
        for mixer, gate, order in zip(self.layers, self.gate_layers, self.order, strict=True):
            x = x + _along_paths(mixer, gate, self.pre_norm(x), order)
        return self.ln2(self.ln1(x).mean(dim=1))


class Head(nn.Module):
    """The classifier, under its public name."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, K)."""
        return self.fc(x)


class RsMamba(nn.Module):
    """A network of the family; parameter names are those of the public checkpoints."""

    def __init__(self, config: RsMambaConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.head = Head(config.dim, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        return self.head(self.backbone(x))

    def fused(self) -> FusedRsMamba:
        """Fold every layer, and put tokens first from the patches to the mean."""
        own = deepcopy(self.backbone)
        layers = [
            FusedLayer(own.pre_norm, _mixer(mixer), _linear(gate), order)
            for mixer, gate, order in zip(own.layers, own.gate_layers, own.order, strict=True)
        ]
        ends = (own.ln1, own.ln2, deepcopy(self.head.fc))
        return FusedRsMamba(own.patch_embed, own.pos_embed, layers, *ends).eval()


def paths(depth: int, tokens: int, seed: int) -> Tensor:
    """Draw the orders of all layers: (depth, L, P), with P forward, reverse, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    forward = torch.arange(tokens, device="cpu")
    shuffles = (torch.randperm(tokens, generator=generator, device="cpu") for _ in range(depth))
    return torch.stack([torch.stack((forward, forward.flip(0), s), dim=1) for s in shuffles])


def _along_paths(mixer: nn.Module, gate: nn.Module, x: Tensor, order: Tensor) -> Tensor:
    """Mix (B, L, D) along each path of ``order`` (L, P), and add the results by their gates."""
    read = torch.cat([x[:, path] for path in order.unbind(1)])
    mixed = mixer(read).chunk(3)
    back = [y[:, path.argsort()] for y, path in zip(mixed, order.unbind(1), strict=True)]
    gates = gate(torch.cat([y.mean(dim=1) for y in back], dim=-1))
    weighted = [g.unsqueeze(-1) * y for g, y in zip(gates.split(1, dim=-1), back, strict=True)]
    return weighted[0] + weighted[1] + weighted[2]


def _mixer(module: nn.Module) -> Mixer:
    assert isinstance(module, Mixer)
    return module


def _linear(gate: nn.Module) -> nn.Linear:
    linear = gate.get_submodule("0")
    assert isinstance(linear, nn.Linear)
    return linear


S = RsMambaConfig(depth=16, dim=192)
B = RsMambaConfig(depth=24, dim=192)
L = RsMambaConfig(depth=36, dim=256)
H = RsMambaConfig(depth=48, dim=320)
NANO = RsMambaConfig(depth=4, dim=96, size=28, patch=8, stride=4, states=8, channels=1, classes=10)

PAPER = "RSMamba: Remote Sensing Image Classification with State Space Model, arXiv 2403.19654"


FIXED = "given one fixed shuffle per layer, which is our choice"
AS_B = f"exact count; the code of rsmamba_b at another size; {FIXED}"


def _published(name: str, config: RsMambaConfig, params: int, checked: str = AS_B) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(RsMamba, config),
        inputs=(TensorSpec("image", ("batch", 3, 224, 224)),),
        paper=PAPER,
        licence="Apache-2.0",
        checked=checked,
        params=params,
        preprocess=IMAGENET,
    )


@register
def rsmamba_s() -> ModelSpec:
    """RSMamba-S for the 21 classes of UC Merced, 4.4 M parameters."""
    return _published("rsmamba_s", S, 4_355_157)


@register
def rsmamba_b() -> ModelSpec:
    """RSMamba-B for the 21 classes of UC Merced, 6.4 M parameters."""
    return _published("rsmamba_b", B, 6_381_141, f"{EQUAL_OUTPUTS}, {FIXED}")


@register
def rsmamba_l() -> ModelSpec:
    """RSMamba-L for the 21 classes of UC Merced, 16.2 M parameters."""
    return _published("rsmamba_l", L, 16_246_549)


@register
def rsmamba_h() -> ModelSpec:
    """RSMamba-H for the 21 classes of UC Merced, 33.1 M parameters."""
    return _published("rsmamba_h", H, 33_053_141)


@register
def rsmamba_nano() -> ModelSpec:
    """A small sibling for 28x28 grey images."""
    return ModelSpec(
        name="rsmamba_nano",
        build=partial(RsMamba, NANO),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the blocks of {PAPER}, at a size of our own",
        licence="Apache-2.0",
        checked="forward written from the formulae; scored on Fashion-MNIST",
        weights="rsmamba_nano.safetensors",
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )
