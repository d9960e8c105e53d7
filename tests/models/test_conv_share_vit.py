"""ConvShareViT: one kernel for all tokens, equal to linear layers; both paddings; the deploy form."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fourfold.models.conv_share_vit as family

VALID = replace(family.NANO, size=12, maps=2, heads=2, depth=2, channels=3, classes=5)
SAME = replace(VALID, padding="same", kernel=3)
CONFIGS = pytest.mark.parametrize("config", [VALID, SAME], ids=["valid", "same"])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def close(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-12 * expected.abs().max())


@CONFIGS
def test_tokens_as_channels_of_a_depthwise_convolution(config: family.ConvShareConfig) -> None:
    shared = family.SharedConv(config, 2, 3).double()
    x = torch.randn(2, 9, 2, 4, 4, dtype=torch.float64)
    depthwise = shared.on_channels(9)
    assert depthwise.groups == 9
    kernels = depthwise.weight.unflatten(0, (9, -1))
    assert all(torch.equal(kernels[0], other) for other in kernels), "every token has the same kernels"
    assert close(depthwise(x.flatten(1, 2)).reshape(2, 9, 3, 4, 4), shared(x))


@CONFIGS
def test_shared_convolution_is_a_linear_layer_over_flattened_tokens(config: family.ConvShareConfig) -> None:
    shared = family.SharedConv(config, 2, 3).double()
    x = torch.randn(2, 9, 2, 4, 4, dtype=torch.float64)
    linear = shared.as_linear()
    assert close(linear(x.flatten(2)), shared(x).flatten(2))


def test_valid_kernels_are_the_rows_of_the_linear_layer() -> None:
    shared = family.SharedConv(VALID, 2, 3)
    linear = shared.as_linear()
    assert torch.equal(linear.weight, shared.conv.weight.flatten(1))
    assert torch.equal(linear.bias, shared.conv.bias)


def test_same_sees_a_neighbourhood_and_valid_the_whole_token() -> None:
    valid, same = (family.SharedConv(c, 1, 1).as_linear().weight for c in (VALID, SAME))
    assert valid.count_nonzero() == valid.numel()
    assert same.count_nonzero() == 100  # the pairs of neighbouring pixels, themselves included, of 4x4 pixels
    assert len(same.unique()) == 10  # nine taps and the zero


def test_a_token_is_treated_alike_wherever_it_stands() -> None:
    shared = family.SharedConv(SAME, 2, 3)
    x, order = torch.randn(1, 9, 2, 4, 4), torch.randperm(9)
    assert torch.equal(shared(x)[:, order], shared(x[:, order]))


def vit(w: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """A plain vision transformer with linear layers, from the state dict of the valid form."""

    def linear(name: str, t: Tensor) -> Tensor:
        return t @ w[f"{name}.weight"].flatten(1).T + w[f"{name}.bias"]

    def norm(name: str, t: Tensor) -> Tensor:
        return F.layer_norm(t, t.shape[-1:], w[f"{name}.weight"].flatten(), w[f"{name}.bias"].flatten())

    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 9, -1)
    x = linear("embed.conv", patches) + w["positions"].flatten(1)
    for i in range(2):
        at = f"blocks.{i}"
        qkv = linear(f"{at}.attn.qkv.conv", norm(f"{at}.norm1", x)).chunk(3, dim=-1)
        split = (t.reshape(len(x), 9, heads, -1).transpose(1, 2) for t in qkv)
        mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        x = x + linear(f"{at}.attn.proj.conv", mixed)
        x = x + linear(f"{at}.mlp.2.conv", F.gelu(linear(f"{at}.mlp.0.conv", norm(f"{at}.norm2", x))))
    return linear("head", norm("norm", x).mean(1))


def test_valid_network_is_a_vision_transformer(randomise) -> None:
    model = randomise(family.ConvShareVit(VALID)).double()
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.conv.weight.mul_(5)  # attention must not be uniform
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    assert close(model(x), vit(model.state_dict(), x, heads=2))


@CONFIGS
def test_deploy_form_equals_the_trained_form(config, randomise, folds_exactly) -> None:
    folds_exactly(randomise(family.ConvShareVit(config)), torch.randn(2, 3, 12, 12))


@pytest.mark.parametrize("config", [family.NANO, family.SAME_NANO], ids=["valid", "same"])
def test_nano_is_small_and_a_batch_gives_what_each_gives_alone(config, randomise, answers_alone) -> None:
    model = randomise(family.ConvShareVit(config))
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 600_000
    answers_alone(model, torch.randn(3, 1, 28, 28))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convshare_vit_nano", "convshare_vit_same_nano"])
def test_engines_agree_with_torch(name: str, reach_engines) -> None:
    exported = reach_engines(name)
    operators = [node.op_type for node in exported.model.graph]
    assert operators.count("MatMul") + operators.count("Gemm") == operators.count("Softmax") * 2
