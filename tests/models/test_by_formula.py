"""Networks without public code, written a second time from their formulae: numpy, float64, no torch.

Axis letters of the einsums: b picture, t u tokens, m o maps or channels, g heads, i j pixels, a c of a
kernel, d e f numbers of a token or a head.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

import fourfold.models.conv_share_vit as convshare
import fourfold.models.fmvit as fmvit
import fourfold.models.ggem as ggem
import fourfold.models.minimal_transformer as minimal

Array = np.ndarray


class Weights:
    """A state dict as float64 arrays; ``at`` looks below a name."""

    def __init__(self, module: nn.Module | dict[str, Array]) -> None:
        state = module if isinstance(module, dict) else module.state_dict()
        self.values = {k: v if isinstance(v, np.ndarray) else v.double().numpy() for k, v in state.items()}

    def at(self, name: str) -> "Weights":
        return Weights(
            {k.removeprefix(name + "."): v for k, v in self.values.items() if k.startswith(name + ".")}
        )

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return any(k.startswith(name + ".") for k in self.values)


def norm(w: Weights, x: Array) -> Array:
    """Layer norm over as many last axes as the weight has."""
    axes = tuple(range(-w["weight"].ndim, 0))
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5) * w["weight"] + w["bias"]


def gelu(x: Array) -> Array:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def softmax(s: Array) -> Array:
    e = np.exp(s - s.max(-1, keepdims=True))
    weights = e / e.sum(-1, keepdims=True)
    assert weights.max() > 2 / s.shape[-1], "attention is uniform, so that this would prove nothing"
    return weights


def same_conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """(b, m, i, j) by (o, m, a, c) of an odd size, one group."""
    r = kernel.shape[-1] // 2
    seen = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (r, r), (r, r))), kernel.shape[2:], axis=(2, 3))
    return np.einsum("bmijac,omac->boij", seen[:, :, ::stride, ::stride], kernel)


def tokens_of(x: Array, side: int) -> Array:
    """(b, m, H, W) to (b, t, m, side, side), row by row."""
    rows, columns = x.shape[2] // side, x.shape[3] // side
    cut = [
        x[:, :, r * side : (r + 1) * side, c * side : (c + 1) * side]
        for r in range(rows)
        for c in range(columns)
    ]
    return np.stack(cut, axis=1)


def agrees(model: nn.Module, x: torch.Tensor, expected: Array) -> None:
    """The module and its deploy form are the formula, and the answer depends on the picture."""
    assert expected.std(0).max() > 1e-3 * np.abs(expected).max()
    for form in (model, model.fused()):
        with torch.no_grad():
            answer = form(x).numpy()
        assert np.abs(answer - expected).max() <= 1e-11 * np.abs(expected).max()


def prepared(module: nn.Module, randomise, sharper: tuple[str, ...], by: float = 4) -> nn.Module:
    """Random weights in float64, those of similarities larger."""
    module = randomise(module).double()
    with torch.no_grad():
        for name, value in module.named_parameters():
            if any(part in name for part in sharper):
                value.mul_(by)
    return module


# ConvShareViT: one kernel for all tokens.


def shared(w: Weights, x: Array, maps: int) -> Array:
    """(b, t, m, i, j) to (b, t, maps, i, j): a kernel as large as a token gives one number."""
    kernel, bias = w["conv.weight"], w["conv.bias"]
    if kernel.shape[-1] == x.shape[-1]:
        numbers = np.einsum("btmij,omij->bto", x, kernel) + bias
        return numbers.reshape(*x.shape[:2], maps, *x.shape[3:])
    each = [same_conv(x[:, t], kernel) + bias[:, None, None] for t in range(x.shape[1])]
    return np.stack(each, axis=1)


def convshare_by_formula(w: Weights, x: Array, config: convshare.ConvShareConfig) -> Array:
    maps, heads, side = config.maps, config.heads, config.patch
    x = shared(w.at("embed"), tokens_of(x, side), maps) + w["positions"]
    for layer in range(config.depth):
        own = w.at(f"blocks.{layer}")
        made = shared(own.at("attn.qkv"), norm(own.at("norm1"), x), 3 * maps)
        q, k, v = np.split(made, 3, axis=2)
        q, k, v = (part.reshape(*part.shape[:2], heads, -1) for part in (q, k, v))
        scores = np.einsum("btgd,bugd->bgtu", q, k) / math.sqrt(maps // heads * side**2)
        mixed = np.einsum("bgtu,bugd->btgd", softmax(scores), v).reshape(x.shape)
        x = x + shared(own.at("attn.proj"), mixed, maps)
        inner = gelu(shared(own.at("mlp.0"), norm(own.at("norm2"), x), config.ratio * maps))
        x = x + shared(own.at("mlp.2"), inner, maps)
    mean = norm(w.at("norm"), x).mean(1)
    return np.einsum("bmij,omij->bo", mean, w["head.weight"]) + w["head.bias"]


CONVSHARE = convshare.ConvShareConfig(12, 4, maps=4, heads=2, depth=2, padding="valid", channels=2, classes=3)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convshare_vit_is_its_formula(padding, randomise) -> None:
    torch.manual_seed(1)
    config = replace(CONVSHARE, padding=padding)
    model = prepared(convshare.ConvShareVit(config), randomise, ("attn", "positions"))
    x = torch.randn(3, 2, 12, 12, dtype=torch.float64)
    agrees(model, x, convshare_by_formula(Weights(model), x.numpy(), config))


# FMViT-style: sums of convolutions with batch norms, and attention to averaged squares.


def batch_norm(w: Weights, x: Array) -> Array:
    shape = (1, -1, *(1,) * (x.ndim - 2))
    centred = x - w["running_mean"].reshape(shape)
    scale = w["weight"] / np.sqrt(w["running_var"] + 1e-5)
    return centred * scale.reshape(shape) + w["bias"].reshape(shape)


def multi_group(w: Weights, x: Array, stride: int = 1) -> Array:
    total = batch_norm(w.at("identity"), x) if "identity" in w else 0
    for branch in range(9):
        if f"convs.{branch}" not in w:
            break
        kernel = w[f"convs.{branch}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        parts = zip(np.split(x, groups, axis=1), np.split(kernel, groups), strict=True)
        answer = np.concatenate([same_conv(part, own, stride) for part, own in parts], axis=1)
        total = total + batch_norm(w.at(f"norms.{branch}"), answer)
    return total


def mlp(w: Weights, x: Array) -> Array:
    return multi_group(w.at("fc2"), np.maximum(multi_group(w.at("fc1"), x), 0))


def light_attention(w: Weights, x: Array, heads: int, pool: int) -> Array:
    x = multi_group(w.at("narrow"), x)
    b, m, height, width = x.shape
    squares = x.reshape(b, m, height // pool, pool, width // pool, pool).mean((3, 5))
    k, v = np.split(multi_group(w.at("kv"), squares), 2, axis=1)
    q, k, v = (part.reshape(b, heads, m // heads, -1) for part in (multi_group(w.at("q"), x), k, v))
    weights = softmax(np.einsum("bgdt,bgdu->bgtu", q, k) / math.sqrt(m // heads))
    return np.einsum("bgtu,bgdu->bgdt", weights, v).reshape(x.shape)


def mixing(w: Weights, x: Array, heads: int, pool: int) -> Array:
    low = light_attention(w.at("low"), x, heads, pool)
    high = multi_group(w.at("high.2"), np.maximum(multi_group(w.at("high.0"), x), 0))
    x = x + multi_group(w.at("proj"), np.concatenate((low, high), axis=1))
    return x + mlp(w.at("mlp"), x)


def fusion(w: Weights, x: Array) -> Array:
    x = multi_group(w.at("mixer"), x)
    return x + mlp(w.at("mlp"), x)


def fmvit_by_formula(w: Weights, x: Array) -> Array:
    """The network of ``FMVIT``, part after part."""
    x = np.maximum(multi_group(w.at("0"), x, stride=2), 0)
    x = fusion(w.at("3"), multi_group(w.at("2"), x))
    x = mixing(w.at("4"), x, heads=2, pool=2)
    x = fusion(w.at("6"), multi_group(w.at("5"), x, stride=2))
    x = mixing(w.at("7"), x, heads=4, pool=1)
    mean = batch_norm(w.at("8.norm"), x.mean((2, 3)))
    return mean @ w["8.linear.weight"].T + w["8.linear.bias"]


FMVIT = fmvit.FmvitConfig(
    (16, 32), (1, 1), (1, 1), (2, 1), stem_strides=(2, 1), group_width=4, head_width=4, ratio=2, classes=5
)


def test_fmvit_style_is_its_formula(randomise) -> None:
    torch.manual_seed(1)
    model = prepared(fmvit.fmvit(FMVIT), randomise, ("low.q.", "low.kv."))
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    agrees(model, x, fmvit_by_formula(Weights(model), x.numpy()))


# GGeM: a power mean for each group of channels.


def test_ggem_head_is_its_formula() -> None:
    torch.manual_seed(1)
    head = ggem.GgemHead(12, groups=3, classes=5).double().eval()
    with torch.no_grad():
        head[0].p.copy_(torch.tensor([0.6, 2.0, 7.5]))
    x = torch.randn(4, 9, 12, dtype=torch.float64)
    w, grouped = Weights(head), np.maximum(x.numpy(), 1e-6).reshape(4, 9, 3, 4)
    powers = grouped ** w["0.p"][:, None]
    features = (powers.sum(1) / 9) ** (1 / w["0.p"][:, None])
    expected = features.reshape(4, 12) @ w["1.weight"].T + w["1.bias"]
    for pool in (head[0], head[0].fused()):
        with torch.no_grad():
            answer = head[1](pool(x)).numpy()
        assert np.abs(answer - expected).max() <= 1e-12 * np.abs(expected).max()


# The minimal transformer: what is left of the similarity and of the values.


def similarity(w: Weights, n: Array) -> Array:
    """(b, t, d) to (b, t, u), before the scale."""
    if "q" in w:
        return np.einsum("btd,bud->btu", n @ w["q.weight"].T, n @ w["k.weight"].T)
    if "w" in w:
        return np.einsum("bte,de,bud->btu", n, w["w.weight"], n)
    triangle = np.zeros((n.shape[-1],) * 2)
    triangle[np.tril_indices(n.shape[-1])] = w["t"]
    return np.einsum("btd,de,fe,buf->btu", n, triangle, triangle, n)


def minimal_by_formula(w: Weights, x: Array, config: minimal.MinimalConfig) -> Array:
    cut = tokens_of(x, config.patch)
    x = np.einsum("btmij,omij->bto", cut, w["patches.weight"]) + w["patches.bias"] + w["positions"]
    for layer in range(config.depth):
        own = w.at(f"layers.{layer}")
        values = n = norm(own.at("norm"), x)
        for i in range({"factorised": 2, "collapsed": 1, "omitted": 0}[config.values]):
            values = values @ own[f"attn.values.{i}.weight"].T
        scores = similarity(own.at("attn.similarity"), n) / math.sqrt(config.dim)
        x = x + softmax(scores) @ values
        if config.mlp:
            inner = norm(own.at("mlp.0"), x) @ own["mlp.1.weight"].T + own["mlp.1.bias"]
            x = x + gelu(inner) @ own["mlp.3.weight"].T + own["mlp.3.bias"]
    return norm(w.at("norm"), x.mean(1)) @ w["head.weight"].T + w["head.bias"]


@pytest.mark.parametrize(
    "form", [minimal.FULL, minimal.COLLAPSED, minimal.OMITTED, minimal.SYMMETRIC], ids=str
)
def test_minimal_transformer_is_its_formula(form, randomise) -> None:
    torch.manual_seed(1)
    config = replace(form, size=12, dim=10, depth=2, channels=2, classes=3)
    model = prepared(minimal.MinimalTransformer(config), randomise, ("similarity", "positions"), by=3)
    x = torch.randn(3, 2, 12, 12, dtype=torch.float64)
    agrees(model, x, minimal_by_formula(Weights(model), x.numpy(), config))
