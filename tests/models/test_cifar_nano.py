"""The small networks for CIFAR-10 are declared alike, and no image of the set is expected in the package."""

import pytest

from fourfold.models.census import census
from fourfold.models.image_sets import CIFAR10, CIFAR10_LABELS
from fourfold.models.registry import family_of, get_spec, model_names

CIFAR = tuple(name for name in model_names() if name.endswith("_cifar_nano"))


def test_at_least_four_families_have_one_with_weights() -> None:
    assert len({family_of(name) for name in CIFAR if get_spec(name).weights}) >= 4


@pytest.mark.parametrize("name", CIFAR)
def test_it_takes_the_pictures_of_the_set_as_they_are(name: str) -> None:
    spec = get_spec(name)
    assert [i.shape for i in spec.inputs] == [("batch", 3, 32, 32)]
    assert (spec.preprocess, spec.labels, spec.dataset) == (CIFAR10, CIFAR10_LABELS, None)
    assert 100_000 <= census(spec).parameters <= 600_000
