"""The files of the zoo: each family is read without another, and in one sitting."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fourfold.models
from fourfold.models.registry import FAMILIES

MODELS = Path(fourfold.models.__file__).parent
LINES = 350


def family_of(module: str) -> str | None:
    """Name the family whose files begin with its name, the longest that fits; None for shared files."""
    fitting = [f for f in FAMILIES if module == f or module.startswith(f"{f}_")]
    return max(fitting, key=len, default=None)


def neighbours(source: str) -> Iterator[str]:
    """Name the modules of the same folder that a source imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]


def test_a_family_is_recognised_by_its_files() -> None:
    assert family_of("moh_vit_blocks") == "moh_vit"
    assert family_of("moh_vit") == "moh_vit"
    assert family_of("routing") is None
    source = (
        "from .a import x\nfrom . import b\ndef f():\n    from .c.d import y\nfrom ..e import z\nimport g"
    )
    assert list(neighbours(source)) == ["a", "b", "c"]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_imports_another(family: str) -> None:
    files = [path for path in MODELS.glob("*.py") if family_of(path.stem) == family]
    assert MODELS / f"{family}.py" in files
    for path in files:
        others = {family_of(name) for name in neighbours(path.read_text())} - {None, family}
        assert not others, f"{path.name} imports {others}"


def test_shared_files_import_no_family() -> None:
    for path in MODELS.glob("*.py"):
        if family_of(path.stem) is None:
            taken = [name for name in neighbours(path.read_text()) if family_of(name)]
            assert not taken, f"{path.name} imports {taken}"


def test_files_are_short_enough_to_be_read_in_one_sitting() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in MODELS.glob("*.py")}
    assert {name: n for name, n in lengths.items() if n > LINES} == {}
