"""Counting a network on the meta device: against hand counts, and without taking a step of a scan."""

from dataclasses import replace

import pytest
from torch import Tensor, nn

from fourfold.errors import BuildError
from fourfold.models.census import census
from fourfold.models.registry import get_spec
from fourfold.models.spec import ModelSpec, TensorSpec

WIDTH, TOKENS = 6, 5


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=False)
        self.linear = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.linear(tokens).chunk(3, dim=-1)
        return self.conv(x), (q @ k.mT).softmax(-1) @ v


SMALL = ModelSpec(
    name="small",
    build=Small,
    inputs=(TensorSpec("x", ("batch", 4, 10, 7)), TensorSpec("tokens", ("batch", TOKENS, WIDTH))),
)


def test_products_of_tokens_with_tokens_are_counted() -> None:
    found = census(SMALL)
    assert found.parameters == 8 * 2 * 9 + 3 * WIDTH * (WIDTH + 1)
    convolution = (5 * 4) * 8 * (2 * 9)
    assert found.macs == convolution + TOKENS * 3 * WIDTH * WIDTH + 2 * TOKENS * TOKENS * WIDTH
    assert found.folds == ()


@pytest.mark.parametrize(("name", "giga"), [("smt_t", 2.461), ("smt_s", 4.839)])
def test_published_networks_have_their_known_cost(name: str, giga: float) -> None:
    found = census(get_spec(name))
    assert found.parameters == get_spec(name).params
    assert round(found.macs / 1e9, 3) == giga


def test_modules_say_what_folds() -> None:
    folds = dict(census(get_spec("fatnet_nano")).folds)
    assert folds["Block"] == "Fold the batch norm into the convolution (``fuse.scale_outputs``)."
    assert list(folds)[-1] == "FatNet"


def test_another_number_of_parameters_is_refused() -> None:
    with pytest.raises(BuildError, match=r"expected 7 parameters in small, got 270; mend"):
        census(replace(SMALL, params=7))


def test_a_scan_of_thousands_of_steps_takes_none() -> None:
    assert census(get_spec("rsmamba_b")).parameters == 6_381_141
