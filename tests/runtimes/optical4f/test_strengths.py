"""Kernels that share a mask are shown so that all use the camera, and electronics undo it."""

from dataclasses import replace

import pytest
import torch

from fourfold.runtimes.optical4f.lower import Layer
from fourfold.runtimes.optical4f.passes import Optics, Setting
from fourfold.runtimes.optical4f.presets import System, get_system
from fourfold.runtimes.optical4f.set_up import set_up, spread

LAYER = Layer("layer", "conv2d", 1, 4, 6, (3, 3), 9, (1, 1, 1, 1))
STRENGTHS = torch.logspace(-2, 0, 6)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernels() -> torch.Tensor:
    """(1, 6, 4, 3, 3), of a strongest and a weakest a hundred apart."""
    return normal(1, 6, 4, 3, 3, seed=1) * STRENGTHS.double()[:, None, None, None]


def errors(system: System, *, together: bool, channels: int = 4) -> torch.Tensor:
    """Relative error of every kernel's answers, (6,)."""
    x, setting = normal(8, 4, 9, 9, seed=2), Setting(channels, together, 20_000.0)
    optics = Optics(LAYER, kernels(), setting, system)
    (ready,) = set_up([optics], lambda: [[x]])
    answer = optics.having(ready.setting).run(x, ready.levels, torch.Generator().manual_seed(3))
    wanted = torch.nn.functional.conv2d(x, kernels()[0], padding=1)
    return sizes(answer - wanted) / sizes(wanted)


def sizes(answers: torch.Tensor) -> torch.Tensor:
    """(B, M, h, w) to the 2-norm of each kernel's answers, (M,)."""
    return answers.square().sum((0, 2, 3)).sqrt()


@pytest.mark.parametrize("scheme", ["homodyne", "pseudo-negative", "incoherent"])
@pytest.mark.parametrize("channels", [4, 2, 1])
def test_weak_kernels_are_as_exact_as_strong_ones(scheme: str, channels: int) -> None:
    system = replace(get_system("lcos-pn"), scheme=scheme)
    found = errors(system, together=True, channels=channels)
    assert found.max() < 2 * found.min()
    apart = errors(system, together=False, channels=channels)
    assert found.mean() < 1.5 * apart.mean(), "nearly as if each had a mask of its own"


@pytest.mark.parametrize(
    "scheme", ["homodyne", "phase-shifting", "reference", "pseudo-negative", "incoherent"]
)
def test_strengths_cancel_in_ideal_optics(scheme: str) -> None:
    system = replace(get_system("ideal"), scheme=scheme, signs="pair")
    assert errors(system, together=True).max() < 1e-11


def test_room_is_that_of_a_larger_sample() -> None:
    drawn = normal(1000, 300, seed=5).abs()
    few = spread(drawn[:, :30].amax(1).reshape(1, 1, -1, 1), 30)
    beyond = (drawn > few.reshape(-1, 1)).double().mean()
    assert beyond < 1e-3
    assert float(few.max()) < 1.5 * float(drawn.amax()), "no kernel gets more room than all of them showed"
    assert torch.equal(spread(torch.ones(1, 1, 3, 1), 10**6), torch.ones(1, 1, 3, 1))
