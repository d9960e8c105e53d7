"""What README.md tells a stranger to type works, in the order it is told; what it links to is there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (fourfold .*)$", TEXT, re.MULTILINE)


def test_the_commands_work_in_order(tmp_path: Path) -> None:
    assert COMMANDS
    for command in COMMANDS:
        arguments = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        t for page in PAGES for t in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= targets


def test_every_verb_is_in_the_readme() -> None:
    from fourfold.harness.cli import cli

    for verb in cli.commands:
        assert f"`fourfold {verb}" in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_python_names_are_the_verbs() -> None:
    import fourfold

    for name in re.findall(r"`fourfold\.(\w+)`", TEXT):
        assert callable(getattr(fourfold, name)), name
