"""What is installed is what is here, and it works away from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_a_face_is_a_package() -> None:
    skipped = {"tests", "benchmarks", "docs"}
    faces = [p for p in ROOT.rglob("__init__.py") if not any(part.startswith(".") for part in p.parts[1:])]
    here = {
        ".".join(("fourfold", *p.parent.relative_to(ROOT).parts))
        for p in faces
        if not {*p.parent.relative_to(ROOT).parts} & {*skipped, "build", "dist"}
    }
    assert here == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_requirement_is_pinned() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split()}
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in wanted}
    assert names <= pinned


def test_changelog_names_this_version() -> None:
    from fourfold import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with only the wheel; the libraries come from this one by a path file."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, since a build folder left in the tree hides what the package list forgets.
    left_out = shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", ignore=left_out)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("fourfold-*.whl")
    place = folder / "env"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    install = [python, "-m", "pip", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = (place / "lib").glob("python*/site-packages")
    libraries = next(p for p in sys.path if p.endswith("site-packages"))
    (site / "libraries.pth").write_text(libraries + "\n")
    return place / "bin" / "fourfold"


def run(fourfold: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run([fourfold, *arguments], cwd=folder, env=clean, capture_output=True, text=True)


def test_the_wheel_works_elsewhere(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [installed.parent / "python", "-c", "import fourfold; print(fourfold.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "site-packages" in where.stdout
    order = ("export", "smt_nano", "--device", "cpu-ort", "--seconds", "0.2", "-o", "made")
    made = run(installed, *order, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    checked = run(installed, "verify", "made/smt_nano@cpu-ort-fp32", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
