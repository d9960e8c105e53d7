"""A text recogniser from outside, from ONNX to Core ML: does it still read the same?

    pip install --no-deps rapidocr==3.10.0
    OMP_NUM_THREADS=1 python benchmarks/coreml_lines.py photos.zip

The network is PP-OCRv6_rec_small, convolutions and attention, whose ONNX file ``rapidocr`` ships; the package
itself is not imported. The zip holds photographs named ``0123_n01930112_nematode.jpg``: each line is the name
of a photograph, written over a strip of it, so the right answer is known and no two backgrounds are alike.
Every third photograph makes a line: the scores of more fill the memory. Every fourth line calibrates, the
others are asked about in int8; in float all of them are. Packages are evaluated by the reference evaluator
of MIL.

Axis letters: N lines, T places of a line from left to right, K characters.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby, islice
from pathlib import Path, PurePosixPath

import onnx
from coreml_lines_page import Row, page
from coreml_walk import COREML, Walk, walk
from given import a_zip
from PIL import Image, ImageDraw, ImageFont

from fourfold.export.artifact import Array, Precision
from fourfold.harness.stats import sqnr_db
from fourfold.models.sources import OnnxFile
from fourfold.models.spec import Preprocess

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
HEIGHT, WIDTH, LETTER, MARGIN = 48, 320, 26, 20
"""Pixels: of a line, as the recogniser was trained, of its letters, and of what is free at both ends."""
HALF = Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3, size=(HEIGHT, WIDTH))
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
BLANK = 0
"""The class that stands between characters (connectionist temporal classification)."""


def recogniser() -> Path:
    """Find the file that ``rapidocr`` ships, without importing the package."""
    found = find_spec("rapidocr")
    if found is None or not found.submodule_search_locations:
        message = "expected the package rapidocr to be installed, got none; see --help"
        raise SystemExit(message)
    return Path(next(iter(found.submodule_search_locations))) / "models" / "PP-OCRv6_rec_small.onnx"


def characters(path: Path) -> list[str]:
    """Read the characters of the classes, which the file holds: the blank first, the space last."""
    held = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return ["", *held["character"].split("\n"), " "]


def line(photo: Image.Image, text: str) -> Image.Image:
    """Write a text over the middle of a photograph, light on the darkened half of it."""
    strip = photo.convert("RGB").resize((WIDTH, WIDTH)).crop((0, 136, WIDTH, 136 + HEIGHT))
    strip = strip.point(lambda level: level // 2)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(LETTER)
    draw.text((MARGIN, HEIGHT / 2), text, fill="white", font=font, anchor="lm")
    return strip


def lines(photos: Path) -> Iterator[tuple[str, Image.Image]]:
    """Give every text that fits into a line, with its picture, in the order of the names."""
    font = ImageFont.load_default(LETTER)
    with zipfile.ZipFile(photos) as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".jpg")):
            text = PurePosixPath(name).stem.split("_", 2)[2].replace("_", " ")
            if font.getlength(text) < WIDTH - 2 * MARGIN:
                yield text, line(Image.open(io.BytesIO(archive.read(name))), text)


def read(scores: Array, classes: list[str]) -> list[str]:
    """Read the texts of (N, T, K) scores: the best class of each place, repeats and blanks left out."""
    best = scores.argmax(-1)
    return ["".join(classes[k] for k, _ in groupby(row) if k != BLANK) for row in best]


def figures(texts: list[str], source: Array, package: Array, classes: list[str]) -> Row:
    """Compare what both read, with each other and with what was written."""
    one, other = read(source, classes), read(package, classes)
    return {
        "n": len(texts),
        "same": sum(a == b for a, b in zip(one, other, strict=True)),
        "source_right": sum(a == b for a, b in zip(one, texts, strict=True)),
        "package_right": sum(a == b for a, b in zip(other, texts, strict=True)),
        "places": float((source.argmax(-1) == package.argmax(-1)).mean()),
        "sqnr_db": sqnr_db(source, package),
    }


def measured(photos: Path, every: int) -> Iterator[tuple[Precision, Row]]:
    """Give the figures of every precision."""
    path = recogniser()
    classes = characters(path)
    source = OnnxFile(path.stem, path, HALF, input_shape=(3, HEIGHT, WIDTH))
    with tempfile.TemporaryDirectory() as top:
        folders = {name: Path(top) / name for name in ("calibration", "others", "all")}
        texts: dict[str, list[str]] = {name: [] for name in folders}
        for folder in folders.values():
            folder.mkdir()
        for index, (text, picture) in enumerate(islice(lines(photos), 0, None, every)):
            for name in ("others" if index % 4 else "calibration", "all"):
                picture.save(folders[name] / f"{index:04}.png")
                texts[name].append(text)
        for precision in PRECISIONS:
            asked = "others" if precision == "int8" else "all"
            data = folders["calibration"] if precision == "int8" else None
            whole = walk(source, data=data, eval_data=folders[asked], precision=precision)
            yield precision, figures(texts[asked], whole.source(), packaged(whole, precision), classes)


def packaged(whole: Walk, precision: Precision) -> Array:
    """Give the scores of a package."""
    return whole.compiled(whole.graph(COREML, precision), COREML)


def main() -> None:
    """Measure, and write the page after every row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=a_zip, help="zip of photographs")
    parser.add_argument("--every", type=int, default=3, help="take only every so many lines (3)")
    options = parser.parse_args()
    if not zipfile.is_zipfile(options.photos):
        parser.error(f"expected a zip of photographs, got {options.photos}")
    table: dict[str, Row] = {}
    for precision, row in measured(options.photos, options.every):
        table[precision] = row
        print(precision, row, flush=True)
        RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(page(table))


if __name__ == "__main__":
    main()
