"""Reducing the Transformer Architecture to a Minimum (arXiv 2410.13732): one head, and what can be left out.

Similarity of the N tokens X to each other, d wide, and what is mixed by it::

    factorised   S = X Wq Wk^T X^T / sqrt(d)     2 d^2 parameters
    collapsed    S = X W X^T / sqrt(d)             d^2           W = Wq Wk^T
    symmetric    S = X T T^T X^T / sqrt(d)         d (d + 1) / 2, T lower triangular

    factorised   Y = softmax(S) X Wv Wo          2 d^2
    collapsed    Y = softmax(S) X Wvo              d^2           Wvo = Wv Wo
    omitted      Y = softmax(S) X                  0

A layer is X = X + Y of the normed X, followed by an MLP or by none. There are no biases inside the attention;
they would not collapse. With several heads every head would need a W of its own, which saves nothing.

Every form is deployed collapsed, with 1 / sqrt(d) in the weights; the symmetric one as S = Z Z^T where
Z = X T d^-1/4.

The paper's depths, widths and norms could not be obtained; norms before each branch, mean pooling and the
sizes below are ours.

Axis letters: B batch, C channels, H height, W width, N tokens, D (d above) width of a token, K classes; the 1
in (B, 1, N, D) is the head.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .image_sets import FASHION_LABELS, FASHION_MNIST
from .registry import register
from .spec import ModelSpec, TensorSpec


@dataclass(frozen=True)
class MinimalConfig:
    """What one member of the family keeps, and its sizes."""

    similarity: Literal["factorised", "collapsed", "symmetric"]
    values: Literal["factorised", "collapsed", "omitted"]
    mlp: bool = False
    size: int = 28
    patch: int = 4
    dim: int = 128
    depth: int = 6
    channels: int = 1
    classes: int = 10


class Factorised(nn.Module):
    """Similarity of queries and keys."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N, D) to (B, 1, N, N)."""
        return self.q(x) @ self.k(x).mT * x.shape[-1] ** -0.5

    def fused(self) -> Against:
        """Join both matrices and the scale."""
        return Against(product(self.k.weight.T, self.q.weight, scale=len(self.q.weight) ** -0.5))


class Collapsed(nn.Module):
    """Similarity by one matrix."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.w = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N, D) to (B, 1, N, N)."""
        return self.w(x) @ x.mT * x.shape[-1] ** -0.5

    def fused(self) -> Against:
        """Put the scale into the matrix."""
        return Against(product(self.w.weight, scale=len(self.w.weight) ** -0.5))


class Symmetric(nn.Module):
    """Similarity by a triangular matrix, the same from i to j as from j to i."""

    rows: Tensor
    columns: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.empty(dim * (dim + 1) // 2))
        rows, columns = torch.tril_indices(dim, dim)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.dim = dim
        nn.init.normal_(self.t, std=dim**-0.5)

    def triangle(self) -> Tensor:
        """T as (D, D)."""
        return self.t.new_zeros(self.dim, self.dim).index_put((self.rows, self.columns), self.t)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N, D) to (B, 1, N, N)."""
        z = x @ self.triangle()
        return z @ z.mT * x.shape[-1] ** -0.5

    def fused(self) -> AgainstItself:
        """Write the triangle out, the square root of the scale in it."""
        return AgainstItself(product(self.triangle().T, scale=self.dim**-0.25))


class Against(nn.Module):
    """Deploy form: X W' X^T."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.w = unbiased(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N, D) to (B, 1, N, N)."""
        return self.w(x) @ x.mT


class AgainstItself(nn.Module):
    """Deploy form: Z Z^T with Z = X T'."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.t = unbiased(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N, D) to (B, 1, N, N)."""
        z = self.t(x)
        return z @ z.mT


class Attention(nn.Module):
    """softmax(S) X through the matrices that are kept for the values."""

    def __init__(self, config: MinimalConfig) -> None:
        super().__init__()
        dim = config.dim
        kinds = {"factorised": Factorised, "collapsed": Collapsed, "symmetric": Symmetric}
        self.similarity: nn.Module = kinds[config.similarity](dim)
        matrices = {"factorised": 2, "collapsed": 1, "omitted": 0}[config.values]
        self.values = nn.Sequential(*(nn.Linear(dim, dim, bias=False) for _ in range(matrices)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        # OpenVINO 2026.4 crashes on a row of attentions without an axis of heads.
        x = x.unsqueeze(1)
        return (self.similarity(x).softmax(dim=-1) @ self.values(x)).squeeze(1)

    def fused(self) -> Attention:
        """Collapse the similarity and the values."""
        own = deepcopy(self)
        assert isinstance(own.similarity, Factorised | Collapsed | Symmetric)
        own.similarity = own.similarity.fused()
        matrices = [layer.weight for layer in own.values if isinstance(layer, nn.Linear)]
        if matrices:
            own.values = nn.Sequential(unbiased(product(*reversed(matrices))))
        return own.eval()


class Layer(nn.Module):
    """Attention with a residual, and the MLP if it is kept."""

    def __init__(self, config: MinimalConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm = nn.LayerNorm(dim)
        self.attn = Attention(config)
        parts = (nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.mlp = nn.Sequential(*parts) if config.mlp else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        x = x + self.attn(self.norm(x))
        return x if self.mlp is None else x + self.mlp(x)


class MinimalTransformer(nn.Module):
    """A vision transformer of such layers."""

    def __init__(self, config: MinimalConfig) -> None:
        super().__init__()
        self.patches = nn.Conv2d(config.channels, config.dim, config.patch, config.patch)
        tokens = (config.size // config.patch) ** 2
        self.positions = nn.Parameter(torch.empty(tokens, config.dim))
        self.layers = nn.Sequential(*(Layer(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.classes)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels to (B, K) logits."""
        tokens = self.patches(x).flatten(2).mT + self.positions
        return self.head(self.norm(self.layers(tokens).mean(dim=1)))

    def fused(self) -> MinimalTransformer:
        """Collapse every attention."""
        own = deepcopy(self)
        for layer in own.layers:
            assert isinstance(layer, Layer)
            layer.attn = layer.attn.fused()
        return own.eval()


def product(*matrices: Tensor, scale: float = 1) -> Tensor:
    """Multiply matrices (D, D) and a factor in float64, rounded once."""
    made = torch.eye(len(matrices[0]), dtype=torch.float64) * scale
    for matrix in matrices:
        made = made @ matrix.detach().double()
    return made.to(matrices[0].dtype)


def unbiased(weight: Tensor) -> nn.Linear:
    """Make a linear layer of (D, D) without bias."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    return made


FULL = MinimalConfig("factorised", "factorised", mlp=True)
COLLAPSED = MinimalConfig("collapsed", "collapsed")
OMITTED = replace(COLLAPSED, values="omitted")
SYMMETRIC = replace(OMITTED, similarity="symmetric")


def _nano(name: str, config: MinimalConfig, weights: str | None = None) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(MinimalTransformer, config),
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper="the layers of Reducing the Transformer Architecture to a Minimum, arXiv 2410.13732, "
        "at a size of our own",
        checked="formula; collapsed equals factorised" + ("; scored on Fashion-MNIST" if weights else ""),
        weights=weights,
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def minimal_nano() -> ModelSpec:
    """No MLP, one matrix for the similarity and one for the values."""
    return _nano("minimal_nano", COLLAPSED, weights="minimal_nano.safetensors")


@register
def minimal_omitted_nano() -> ModelSpec:
    """No MLP, one matrix for the similarity, none for the values."""
    return _nano("minimal_omitted_nano", OMITTED)


@register
def minimal_symmetric_nano() -> ModelSpec:
    """No MLP, a triangular matrix for the similarity, none for the values."""
    return _nano("minimal_symmetric_nano", SYMMETRIC)


@register
def minimal_full_nano() -> ModelSpec:
    """Nothing left out: what the others are compared with."""
    return _nano("minimal_full_nano", FULL)
