"""int8 Core ML packages of every network with shipped weights, on test images, beside ONNX Runtime.

    OMP_NUM_THREADS=1 python benchmarks/coreml_int8.py FOLDER cifar10.zip

FOLDER holds the four ``*-ubyte.gz`` files of Fashion-MNIST, the zip is that of ``nano_data.py``. Every
network is calibrated once, on training images. The same ranges give Core ML's graph, which is saved as a
package, read back and evaluated by the reference evaluator of MIL, and which ONNX Runtime also runs; and
ONNX Runtime's own graph, whose activations have zero points. Networks that the table has already are left
alone; names after the zip are measured anew. ``--images`` draws fewer than all 10,000, with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from coreml_int8_page import Row, Table, page
from coreml_walk import COREML, ORT, alike, walk
from fashion_mnist_subset import read_split
from given import a_fashion_folder, a_zip
from nano_data import trained_classifiers

from fourfold.export.artifact import Array
from fourfold.harness.accuracy import paired_accuracy
from fourfold.models.registry import get_spec

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
KEPT = ("n", "correct", "float_correct", "broke", "fixed", "p_value", "agreement", "sqnr_db", "verdict")


def measured(name: str, data: Path | None, eval_data: Path, count: int) -> Row:
    """Give one row."""
    whole = walk(get_spec(name), data=data, eval_data=eval_data, count=count)
    reference, graph = whole.source(), whole.graph(COREML, "int8")
    package = whole.compiled(graph, COREML)
    own = whole.compiled(whole.graph(ORT, "int8"), ORT)

    def scored(logits: Array) -> dict[str, object]:
        assert whole.images.labels is not None
        accuracy = paired_accuracy(logits, reference, whole.images.labels, whole.images.source)
        return {key: getattr(accuracy, key) for key in KEPT}

    return {
        "coreml": scored(package),
        "ort": scored(own),
        "as_written": dict(alike(whole.written(graph), package)),
        "same_graph": dict(alike(whole.compiled(graph, ORT), package)),
        "own_graph": dict(alike(own, package)),
    }


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fashion", type=a_fashion_folder, help="folder with the four *-ubyte.gz files")
    parser.add_argument("cifar", type=a_zip, help="zip of CIFAR-10")
    parser.add_argument("names", nargs="*", help="networks to measure anew")
    parser.add_argument("--images", type=int, default=10_000, help="test images of each set")
    return parser.parse_args()


def main() -> None:
    """Measure what is missing, and write the table after every network."""
    options = parsed()
    trained = trained_classifiers()
    table: Table = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    table = {name: row for name, row in table.items() if name in trained}
    with tempfile.TemporaryDirectory() as folder:
        fashion = Path(folder) / "fashion.npz"
        images, labels = read_split(options.fashion, "t10k")
        np.savez(fashion, images=images, labels=labels)
        for name in options.names or [n for n in trained if n not in table]:
            shipped = get_spec(name).dataset is not None
            data, eval_data = (
                (None, fashion) if shipped else (options.cifar / "train", options.cifar / "test")
            )
            table[name] = measured(name, data, eval_data, options.images)
            print(name, table[name], flush=True)
            RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
            PAGE.write_text(page(table))


if __name__ == "__main__":
    main()
