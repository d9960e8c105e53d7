"""Fast normal numbers are as normal as a million of them can show."""

import math

import pytest
import torch

from fourfold.runtimes.optical4f.noise import standard_normal

COUNT = 2**20


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return standard_normal(torch.empty(shape, dtype=dtype), torch.Generator().manual_seed(seed))


def test_moments_are_those_of_the_normal_law() -> None:
    """Mean, variance, skewness and kurtosis within four standard errors."""
    z = drawn(0, COUNT).double()
    for power, wanted, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float(z.pow(power).mean()) - wanted) < 4 * math.sqrt(variance / COUNT)


def test_the_distribution_function_is_the_normal_one() -> None:
    """Kolmogorov's distance at a millionth chance of a false alarm, 2.7/sqrt(n)."""
    z = drawn(1, COUNT).double().sort().values
    steps = torch.arange(1, COUNT + 1, dtype=torch.float64) / COUNT
    normal = 0.5 * torch.erfc(-z / math.sqrt(2))
    assert float((normal - steps).abs().max()) < 2.7 / math.sqrt(COUNT)
    assert 4 < float(z.abs().max()) < 4.4


def test_numbers_are_independent_and_repeat_with_the_seed() -> None:
    z = drawn(2, 8, COUNT // 8)
    for shift in (1, 2, 3, 4):
        flat = z.flatten()
        assert abs(float((flat[:-shift] * flat[shift:]).mean())) < 4 / math.sqrt(COUNT)
    assert torch.equal(z, drawn(2, 8, COUNT // 8))
    assert not torch.equal(z, drawn(3, 8, COUNT // 8))
    generator = torch.Generator().manual_seed(2)
    first, second = (standard_normal(torch.empty(COUNT), generator) for _ in range(2))
    assert abs(float((first * second).mean())) < 4 / math.sqrt(COUNT)


@pytest.mark.parametrize("shape", [(), (3,), (1, 4097), (5, 1, 1001)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    z = drawn(4, *shape, dtype=dtype)
    assert (tuple(z.shape), z.dtype, z.requires_grad) == (shape, dtype, False)
    assert bool(z.isfinite().all())
