"""A bench is two pictures in and one frame out; the simulator is one."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fourfold.runtimes.optical4f.backend import Backend, Simulator, correlate_on
from fourfold.runtimes.optical4f.conditions import Conditions
from fourfold.runtimes.optical4f.detection import SCHEMES
from fourfold.runtimes.optical4f.plane import Window
from fourfold.runtimes.optical4f.simulate import simulate_pass

GENERATOR = torch.Generator().manual_seed(0)
TILE = torch.rand(12, 10, generator=GENERATOR, dtype=torch.float64)
KERNEL = torch.randn(3, 3, generator=GENERATOR, dtype=torch.float64)
SAME = Window((1, 1, 1, 1))


def off(answer: Tensor, wanted: Tensor) -> float:
    return float((answer - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_ideal_bench_correlates(scheme: str) -> None:
    bench: Backend = Simulator(coherent=SCHEMES[scheme].coherent)
    answer = correlate_on(bench, TILE, KERNEL, scheme=scheme, window=SAME)
    assert off(answer, conv2d(TILE[None, None], KERNEL[None, None], padding=1)[0, 0]) <= 1e-12


@pytest.mark.parametrize(("scheme", "full_scale"), [("homodyne", 4.0), ("pseudo-negative", 1.0)])
def test_a_bench_of_few_bits_errs_like_a_simulated_pass(scheme: str, full_scale: float) -> None:
    conditions = Conditions(adc_bits=6, input_bits=6, mask_bits=6)
    wanted = conv2d(TILE[None, None], KERNEL[None, None], padding=1)[0, 0]
    bench = Simulator(conditions, full_scale=full_scale)
    on_bench = correlate_on(bench, TILE, KERNEL, scheme=scheme, conditions=conditions, window=SAME)
    simulated = simulate_pass(TILE, KERNEL, scheme=scheme, conditions=conditions, window=SAME).answer
    assert 0.5 < off(on_bench, wanted) / off(simulated, wanted) < 4


def test_frames_are_whole_counts_and_saturate() -> None:
    bench = Simulator(Conditions(adc_bits=8), full_scale=0.25)
    frame = bench.display(torch.ones(8, 8), torch.ones(8, 8, dtype=torch.complex64))
    assert torch.allclose(frame, torch.full((8, 8), 255.0))
    dim = bench.display(0.3 * torch.rand(8, 8), torch.ones(8, 8, dtype=torch.complex64))
    assert float((dim - dim.round()).abs().max()) < 1e-3
    assert 0 < float(dim.max()) < 255


def test_another_bench_fits_the_seam() -> None:
    """A camera that is twice as bright as the simulator, and says so."""

    @dataclass(frozen=True)
    class Bright:
        inner: Simulator
        light_per_count: float

        def display(self, input: Tensor, mask: Tensor, *, reference: complex = 0.0) -> Tensor:
            return 2 * self.inner.display(input, mask, reference=reference)

    answer = correlate_on(Bright(Simulator(), 0.5), TILE, KERNEL)
    assert off(answer, conv2d(TILE[None, None], KERNEL[None, None])[0, 0]) <= 1e-12
