"""What int8 does to the accuracy of every network with shipped weights, paired, on 10,000 test images.

    OMP_NUM_THREADS=1 python benchmarks/nano_int8.py FOLDER cifar10.zip

FOLDER holds the four ``*-ubyte.gz`` files of Fashion-MNIST, the zip is that of ``nano_data.py``. Every
network is deployed in int8 for each engine as ``fourfold export`` does it, calibrated on training images.
Networks that the table has already are left alone; ``--again`` measures them too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from fashion_mnist_subset import read_split
from given import a_fashion_folder, a_zip
from nano_data import trained_classifiers
from nano_int8_page import Figures, Table, page

import fourfold
from fourfold.harness.examine import Budget
from fourfold.harness.result import Accuracy
from fourfold.models.registry import get_spec

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
DEVICES = ("cpu-ort", "cpu-openvino")
KEPT = ("n", "correct", "float_correct", "broke", "fixed", "p_value", "agreement", "sqnr_db")


def measured(name: str, device: str, fashion: Path, cifar: Path, work: Path) -> Figures:
    """Deploy one network in int8 and give its paired accuracy."""
    shipped = get_spec(name).dataset is not None
    bundle = fourfold.deploy(
        name,
        device,
        precision="int8",
        out=work,
        data=None if shipped else cifar / "train",
        eval_data=fashion if shipped else cifar / "test",
        budget=Budget(seconds=0.1),
        overwrite=True,
    )
    accuracy = bundle.report.accuracy
    assert isinstance(accuracy, Accuracy)
    return {key: getattr(accuracy, key) for key in KEPT}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fashion", type=a_fashion_folder, help="folder with the four *-ubyte.gz files")
    parser.add_argument("cifar", type=a_zip, help="zip of CIFAR-10")
    parser.add_argument("--again", action="store_true", help="measure every network anew")
    return parser.parse_args()


def main() -> None:
    """Measure what is missing, and write the table after every network."""
    options = parsed()
    table: Table = json.loads(RECORD.read_text()) if RECORD.exists() and not options.again else {}
    names = trained_classifiers()
    table = {name: figures for name, figures in table.items() if name in names}
    with tempfile.TemporaryDirectory() as folder:
        fashion = Path(folder) / "fashion.npz"
        images, labels = read_split(options.fashion, "t10k")
        np.savez(fashion, images=images, labels=labels)
        for name in (n for n in names if n not in table):
            table[name] = {d: measured(name, d, fashion, options.cifar, Path(folder)) for d in DEVICES}
            print(name, table[name], flush=True)
            write(table)


def write(table: Table) -> None:
    """Write the record and the page."""
    RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(table))


if __name__ == "__main__":
    main()
