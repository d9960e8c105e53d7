"""Data that the scripts here are given by path, looked at before anything long begins."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

FASHION = tuple(
    f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def a_zip(text: str) -> Path:
    """Take the path of a zip, as a type of argparse."""
    path = Path(text)
    if not zipfile.is_zipfile(path):
        message = f"expected a zip file, got {text}, which {_what(path)}; name another"
        raise argparse.ArgumentTypeError(message)
    return path


def a_fashion_folder(text: str) -> Path:
    """Take the path of a folder with the files of Fashion-MNIST, as a type of argparse."""
    path = Path(text)
    missing = [name for name in FASHION if not (path / name).is_file()]
    if missing:
        what = f"has no {missing[0]}" if path.is_dir() else _what(path)
        message = f"expected a folder with the files of Fashion-MNIST, got {text}, which {what}; name another"
        raise argparse.ArgumentTypeError(message)
    return path


def _what(path: Path) -> str:
    if path.is_dir():
        return "is a folder"
    return "is another file" if path.exists() else "does not exist"
