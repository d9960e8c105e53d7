"""The minimal transformer: what each form costs, and that collapsing changes no answer."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fourfold.models.minimal_transformer as family

TINY = family.MinimalConfig("factorised", "factorised", size=12, dim=10, depth=2, channels=3, classes=5)
FORMS = tuple(
    replace(TINY, similarity=s, values=v, mlp=m)
    for s, v, m in product(
        ("factorised", "collapsed", "symmetric"), ("factorised", "collapsed", "omitted"), (False, True)
    )
)
EACH_FORM = pytest.mark.parametrize("config", FORMS, ids=lambda c: f"{c.similarity}-{c.values}-{c.mlp}")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def sharpened(model: nn.Module) -> nn.Module:
    """Scale the matrices of the similarity up, so that attention is not uniform."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".similarity." in name:
                value.mul_(3)
    return model


def close(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-12 * expected.abs().max())


@EACH_FORM
def test_each_form_costs_what_it_says(config: family.MinimalConfig) -> None:
    d = config.dim
    similarity = {"factorised": 2 * d * d, "collapsed": d * d, "symmetric": d * (d + 1) // 2}
    values = {"factorised": 2 * d * d, "collapsed": d * d, "omitted": 0}
    mlp = 2 * d + 8 * d * d + 5 * d if config.mlp else 0
    layer = family.Layer(config)
    expected = 2 * d + similarity[config.similarity] + values[config.values] + mlp
    assert sum(p.numel() for p in layer.parameters()) == expected


def scores(w: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    """X W X^T / sqrt(d), whatever W is kept as."""
    if f"{at}.q.weight" in w:
        middle = w[f"{at}.q.weight"].T @ w[f"{at}.k.weight"]
    elif f"{at}.w.weight" in w:
        middle = w[f"{at}.w.weight"].T
    else:
        t = torch.zeros(10, 10, dtype=torch.float64)
        entries = iter(w[f"{at}.t"].tolist())
        for i in range(10):
            for j in range(i + 1):
                t[i, j] = next(entries)
        middle = t @ t.T
    return torch.einsum("bnd,de,bme->bnm", x, middle, x) / 10**0.5


def by_formula(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The whole network from its state dict."""

    def norm(name: str, t: Tensor) -> Tensor:
        return F.layer_norm(t, (10,), w[f"{name}.weight"], w[f"{name}.bias"])

    patches = F.unfold(x, 4, stride=4).mT
    x = patches @ w["patches.weight"].flatten(1).T + w["patches.bias"] + w["positions"]
    for i in range(2):
        at = f"layers.{i}"
        n = norm(f"{at}.norm", x)
        y = n
        for j in range(2):
            y = y @ w[f"{at}.attn.values.{j}.weight"].T if f"{at}.attn.values.{j}.weight" in w else y
        x = x + scores(w, f"{at}.attn.similarity", n).softmax(-1) @ y
        if f"{at}.mlp.1.weight" in w:
            hidden = F.gelu(norm(f"{at}.mlp.0", x) @ w[f"{at}.mlp.1.weight"].T + w[f"{at}.mlp.1.bias"])
            x = x + hidden @ w[f"{at}.mlp.3.weight"].T + w[f"{at}.mlp.3.bias"]
    return norm("norm", x.mean(1)) @ w["head.weight"].T + w["head.bias"]


@EACH_FORM
def test_each_form_equals_its_formula_and_its_collapsed_deploy_form(config, randomise, folds_exactly) -> None:
    model = sharpened(randomise(family.MinimalTransformer(config))).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    assert close(model(x), by_formula(model.state_dict(), x))
    folds_exactly(model, x)


def test_factorised_attention_equals_the_collapsed_one_made_of_its_products() -> None:
    factorised = sharpened(family.Attention(TINY)).double()
    collapsed = family.Attention(replace(TINY, similarity="collapsed", values="collapsed")).double()
    q, k = factorised.similarity.q.weight, factorised.similarity.k.weight
    v, o = (layer.weight for layer in factorised.values)
    with torch.no_grad():
        collapsed.similarity.w.weight.copy_((q.T @ k).T)
        collapsed.values[0].weight.copy_(o @ v)
    x = torch.randn(2, 7, 10, dtype=torch.float64)
    assert close(collapsed(x), factorised(x))


def test_symmetric_similarity_is_symmetric_and_never_negative_to_oneself() -> None:
    similarity = family.Symmetric(10).double()
    s = similarity(torch.randn(2, 1, 7, 10, dtype=torch.float64))
    assert close(s.mT, s)
    assert (s.diagonal(dim1=2, dim2=3) >= 0).all()
    assert torch.equal(similarity.triangle(), similarity.triangle().tril())


def test_deploy_form_has_one_matrix_for_each_two() -> None:
    folded = family.MinimalTransformer(TINY).fused()
    assert sum(p.numel() for p in folded.layers[0].attn.parameters()) == 2 * 10 * 10


def test_what_is_left_out_is_most_of_the_network() -> None:
    sizes = {
        c: sum(p.numel() for p in family.MinimalTransformer(c).parameters())
        for c in (family.FULL, family.COLLAPSED, family.OMITTED, family.SYMMETRIC)
    }
    assert 100_000 <= sizes[family.COLLAPSED] <= 600_000
    assert sizes[family.SYMMETRIC] < 0.1 * sizes[family.FULL]


def test_a_batch_gives_what_each_gives_alone(randomise, answers_alone) -> None:
    model = sharpened(randomise(family.MinimalTransformer(family.SYMMETRIC)))
    answers_alone(model, torch.randn(3, 1, 28, 28))
