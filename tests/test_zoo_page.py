"""docs/zoo.md says what the code and the records of the sweep say; run by ``make zoo-check``."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fourfold.harness.zoo import zoo

ROOT = Path(__file__).parents[1]


@pytest.fixture
def zoo_page(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("zoo_page")


@pytest.mark.zoo
def test_page_follows_from_the_code_and_the_records(zoo_page: ModuleType) -> None:
    written = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert written == zoo_page.page(zoo()), "run make zoo-table"


def test_page_names_what_was_found(zoo_page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourfold.harness.zoo.model_names", lambda: ("fatnet_nano", "ggem_b", "ep_s"))
    text = zoo_page.page(zoo())
    assert text.index("## efficient_probing") < text.index("## ggem") < text.index("## fatnet")
    assert "| `ggem_b` | 769,012 | 0.000768 G | 196x768 |" in text
    assert "* `Block`: Fold the batch norm into the convolution (``fuse.scale_outputs``)." in text
