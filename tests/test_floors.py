"""Nothing flows back: a room imports only from the rooms to its left, and never by an absolute name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("models", "export", "calibration", "runtimes", "harness")
SHARED = ("errors",)
"""Modules at the root that every room may use."""
VENDORS = ("torch", "onnxruntime", "openvino", "timm", "tensorrt", "coremltools", "nncf")
DEFINES_MODULES = (
    "models/",
    "export/reparam.py",
    "export/to_onnx.py",
    "export/torch_run.py",
    # What stands in for a device computes in torch; its runtime imports it inside functions.
    "runtimes/coreml/mil/",
    "runtimes/optical4f/",
)

ENGINES = (
    "from .runtime import RUNTIME as RUNTIME",
    "from .engine import RUNTIME\n__all__ = ['RUNTIME']",
)
"""Faces of engines that are folders."""


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(text: str, package: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Give every imported module as a dotted path from the root (``=`` if absolute), with its line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((".".join((*base, name)), node.lineno) for name in names)
        elif isinstance(node, ast.ImportFrom):
            yield f"={node.module}", node.lineno
        elif isinstance(node, ast.Import):
            yield from ((f"={alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_left(path: Path) -> None:
    room = ROOMS.index(path.relative_to(ROOT).parts[0])
    for name, line in imports(path.read_text(), path.relative_to(ROOT).parent.parts):
        top = name.split(".")[0]
        assert not name.startswith(("=fourfold", *(f"={r}" for r in ROOMS))), f"{path}:{line} imports {name}"
        if name.startswith("=") or top in SHARED or name == "__version__":
            continue
        assert top in ROOMS, f"{path}:{line} imports {name}, which is no room"
        assert ROOMS.index(top) <= room, f"{path}:{line} imports {name} from a room to its right"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_vendors_are_imported_inside_functions(path: Path) -> None:
    if str(path.relative_to(ROOT)).startswith(DEFINES_MODULES):
        return
    for node in ast.parse(path.read_text()).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not [n for n in names if n.split(".")[0] in VENDORS], f"{path}:{node.lineno}"


def test_room_faces_hold_no_logic() -> None:
    for room in ROOMS:
        for face in (ROOT / room).rglob("__init__.py"):
            _, *more = ast.parse(face.read_text()).body
            # The face of an engine that is a folder hands on its RUNTIME.
            assert ast.unparse(ast.Module(more, [])) in ("", *ENGINES), f"{face} is more than a docstring"


def test_a_wrong_direction_would_be_seen() -> None:
    text = "from ..harness import cli\nfrom .. import errors\nimport fourfold.models"
    assert list(imports(text, ("models",))) == [("harness", 1), ("errors", 2), ("=fourfold.models", 3)]
