"""Paths given to the scripts of ``benchmarks/``."""

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Benchmark = Callable[[str], ModuleType]


def test_a_zip_is_taken_and_nothing_else(benchmark: Benchmark, tmp_path: Path) -> None:
    given = benchmark("given")
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("a", "b")
    bad.write_text("no zip")
    assert given.a_zip(str(good)) == good
    for path, what in ((bad, "is another file"), (tmp_path, "is a folder"), (tmp_path / "no", "not exist")):
        with pytest.raises(
            argparse.ArgumentTypeError, match=f"expected a zip file, got .*{what}; name another"
        ):
            given.a_zip(str(path))


def test_a_folder_needs_all_files_of_the_set(benchmark: Benchmark, tmp_path: Path) -> None:
    given = benchmark("given")
    with pytest.raises(argparse.ArgumentTypeError, match=r"which has no train-images-idx3-ubyte\.gz"):
        given.a_fashion_folder(str(tmp_path))
    with pytest.raises(argparse.ArgumentTypeError, match="which does not exist"):
        given.a_fashion_folder(str(tmp_path / "no"))
    for name in given.FASHION:
        (tmp_path / name).touch()
    assert given.a_fashion_folder(str(tmp_path)) == tmp_path
