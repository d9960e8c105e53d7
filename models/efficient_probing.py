"""Efficient Probing (EP): attention, please! (arXiv 2506.10178), a head for the tokens of any backbone.

M learned queries attend to N tokens, without key projection and norm; each gives one slice of the output::

    A = softmax(D^-1/2 Q X^T),   V = X Wv,   out = [A_1 V_1, ..., A_M V_M]     V_m: slice m of V's channels
    logits = Wc BN(out) + bc                                                   BN without affine

The deploy form computes the same with the products associated the other way round,

    A_m (X Wv_m) = (A_m X) Wv_m

so that Wv, by far the largest, is applied to M pooled tokens instead of N: M N D + D^2 / o multiplications
instead of N D^2 / o. D^-1/2 goes into Q, and the batch norm into the classifier:
W' = Wc / sqrt(var + eps), b' = bc - W' mean.

Axis letters: B batch, N tokens, D width of a token, M queries, o factor by which the output is narrower,
K classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import BuildError
from .attach import Attached
from .fuse_modules import fold_norm_linear
from .image_sets import CIFAR10, CIFAR10_LABELS, FASHION_LABELS, FASHION_MNIST
from .registry import register
from .small_trunk import residual_trunk, small_trunk
from .spec import EQUAL_OUTPUTS, ModelSpec, TensorSpec


class EfficientProbing(nn.Module):
    """Pool tokens by M queries; parameter names are those of the public code."""

    def __init__(self, dim: int, queries: int = 32, narrower: int = 1) -> None:
        super().__init__()
        if dim % (narrower * queries):
            message = (
                f"expected a width that {narrower} x {queries} divides (narrowing x queries), got {dim}; "
                "choose other queries"
            )
            raise BuildError(message)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, queries, dim))
        self.v = nn.Linear(dim, dim // narrower, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D / o)."""
        queries, dim = self.cls_token.shape[1:]
        weights = (self.cls_token * dim**-0.5 @ x.mT).softmax(dim=-1)  # (B, M, N)
        values = self.v(x).unflatten(2, (queries, -1)).transpose(1, 2)  # (B, M, N, D / o / M)
        return (weights.unsqueeze(2) @ values).flatten(1)

    def fused(self) -> FusedProbing:
        """Fold the scale into the queries, and project what was pooled."""
        queries = self.cls_token.detach().double() * self.cls_token.shape[2] ** -0.5
        return FusedProbing(queries.to(self.cls_token.dtype), self.v.weight.detach()).eval()


class FusedProbing(nn.Module):
    """Pool first, then project each pooled token by its own slice."""

    def __init__(self, queries: Tensor, weight: Tensor) -> None:
        super().__init__()
        outputs, dim = weight.shape
        heads = queries.shape[1]
        self.queries = nn.Parameter(queries)
        # One group for each query: a group sees its pooled token only.
        self.project = nn.Conv2d(heads * dim, outputs, 1, groups=heads, bias=False, device="meta")
        self.project.weight = nn.Parameter(weight[:, :, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, D / o)."""
        pooled = (self.queries @ x.mT).softmax(dim=-1) @ x  # (B, M, D)
        return self.project(pooled.reshape(-1, self.project.in_channels, 1, 1)).flatten(1)


class ProbeHead(nn.Sequential):
    """EP, batch norm without affine, linear classifier."""

    def __init__(self, dim: int, *, classes: int, queries: int = 32, narrower: int = 1) -> None:
        pool = EfficientProbing(dim, queries, narrower)
        width = dim // narrower
        norm = nn.BatchNorm1d(width, eps=1e-6, affine=False)
        super().__init__(pool, norm, nn.Linear(width, classes))

    def fused(self) -> nn.Sequential:
        """Fold the pooling, and the batch norm into the classifier."""
        pool, norm, linear = self
        assert isinstance(pool, EfficientProbing)
        assert isinstance(norm, nn.BatchNorm1d)
        assert isinstance(linear, nn.Linear)
        return nn.Sequential(pool.fused(), fold_norm_linear(norm, linear)).eval()


def nano() -> Attached:
    """Build the small sibling for 28x28 pixels."""
    return Attached(small_trunk(1, 128, depth=3), ProbeHead(128, classes=10, queries=8), layout="maps")


def cifar_nano() -> Attached:
    """Build the small sibling for 32x32 coloured pixels."""
    return Attached(residual_trunk(3, (32, 64, 96)), ProbeHead(96, classes=10, queries=8), layout="maps")


PAPER = "Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency, arXiv 2506.10178"


def _head(name: str, dim: int, params: int, *, queries: int = 32, narrower: int = 1) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(ProbeHead, dim, classes=1000, queries=queries, narrower=narrower),
        inputs=(TensorSpec("tokens", ("batch", 196, dim)),),
        paper=PAPER,
        licence="Apache-2.0",
        checked=EQUAL_OUTPUTS,
        params=params,
    )


@register
def ep_s() -> ModelSpec:
    """A head for 384 wide tokens and 1000 classes, 0.54 M parameters."""
    return _head("ep_s", 384, 544_744)


@register
def ep_b() -> ModelSpec:
    """A head for 768 wide tokens and 1000 classes, 1.38 M parameters."""
    return _head("ep_b", 768, 1_383_400)


@register
def ep_l() -> ModelSpec:
    """A head for 1024 wide tokens and 1000 classes, 2.11 M parameters."""
    return _head("ep_l", 1024, 2_106_344)


@register
def ep_b_16() -> ModelSpec:
    """As ``ep_b`` with 16 queries, 1.37 M parameters."""
    return _head("ep_b_16", 768, 1_371_112, queries=16)


@register
def ep_b_half() -> ModelSpec:
    """As ``ep_b`` with an output half as wide, 0.70 M parameters."""
    return _head("ep_b_half", 768, 704_488, narrower=2)


@register
def ep_nano() -> ModelSpec:
    """The head on a small convolutional backbone for 28x28 grey images."""
    return ModelSpec(
        name="ep_nano",
        build=nano,
        inputs=(TensorSpec("image", ("batch", 1, 28, 28)),),
        paper=f"the head of {PAPER}, on a backbone of our own",
        licence="Apache-2.0",
        checked="forward written from the formulae",
        weights=None,
        preprocess=FASHION_MNIST,
        labels=FASHION_LABELS,
        dataset="fashion_mnist",
    )


@register
def ep_cifar_nano() -> ModelSpec:
    """The head on a small residual network for 32x32 coloured images of CIFAR-10."""
    return ModelSpec(
        name="ep_cifar_nano",
        build=cifar_nano,
        inputs=(TensorSpec("image", ("batch", 3, 32, 32)),),
        paper=f"the head of {PAPER}, on a backbone of our own",
        licence="Apache-2.0",
        checked="forward written from the formulae; scored on CIFAR-10",
        weights="ep_cifar_nano.safetensors",
        preprocess=CIFAR10,
        labels=CIFAR10_LABELS,
    )
