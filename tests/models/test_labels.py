"""Names of classes against the shapes of outputs."""

import pytest

from fourfold.errors import UsageError
from fourfold.models.labels import check_count, check_unique


@pytest.mark.parametrize("shape", [(1, 2), ("batch", 2), (4, 2, 8, 8)])
def test_as_many_names_as_classes_are_right(shape: tuple[int | str, ...]) -> None:
    check_count(("cat", "dog"), "logits", shape)
    check_count((), "logits", shape)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1), ("batch", "classes"), ()])
def test_other_shapes_are_refused(shape: tuple[int | str, ...]) -> None:
    check_count((), "logits", shape)
    with pytest.raises(UsageError, match="as many labels as 'logits' has classes, got 2 labels"):
        check_count(("cat", "dog"), "logits", shape)


def test_a_name_for_two_classes_is_refused() -> None:
    check_unique(("crane", "maillot"))
    with pytest.raises(UsageError, match="expected every label once, got 'crane' more than once"):
        check_unique(("crane", "maillot", "crane"))
