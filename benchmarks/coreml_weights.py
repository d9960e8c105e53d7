"""What smaller weights do to size and accuracy of every network with shipped weights, as Core ML packages.

    OMP_NUM_THREADS=1 python benchmarks/coreml_weights.py cifar10.zip

The zip is that of ``nano_data.py``. Every network is deployed for ``iphone-16`` in fp16 as ``fourfold export
--compress`` does it, and scored with the reference evaluator of MIL: 2,000 test images of Fashion-MNIST, as
shipped, or of CIFAR-10, every fifth. Networks that the table has already are left alone; ``--again`` measures
them too.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from coreml_weights_page import Figures, Table, page
from given import a_zip
from nano_data import trained_classifiers
from PIL import Image

import fourfold
from fourfold.errors import VerdictError
from fourfold.export.artifact import Compression
from fourfold.harness.examine import Budget
from fourfold.harness.result import Accuracy
from fourfold.models.registry import get_spec

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
FORMS: dict[str, Compression | None] = {"fp16": None, "int8": "int8", "int4": "int4"}
KEPT = ("n", "correct", "float_correct", "broke", "fixed", "p_value", "agreement", "sqnr_db")
EVERY = 5


def measured(name: str, compression: Compression | None, cifar: Path, work: Path) -> Figures:
    """Deploy one network and give its size and its paired accuracy."""
    try:
        bundle = fourfold.deploy(
            name,
            "iphone-16",
            precision="fp16",
            compression=compression,
            out=work,
            eval_data=None if get_spec(name).dataset else cifar,
            budget=Budget(seconds=0.1),
            overwrite=True,
        )
    except VerdictError as error:
        return {"refused": str(error)}
    accuracy = bundle.report.accuracy
    assert isinstance(accuracy, Accuracy)
    size = sum(n for file, n in bundle.report.sizes.items() if file.startswith("compiled/"))
    return {"bytes": size, "ok": bundle.report.ok} | {key: getattr(accuracy, key) for key in KEPT}


def pictures(archive: Path, out: Path) -> Path:
    """Write every fifth test image of the zip as an npz with labels."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if n.startswith("test/") and n.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        chosen = names[::EVERY]
        images = np.stack([np.asarray(Image.open(io.BytesIO(file.read(name)))) for name in chosen])
    labels = np.array([classes.index(name.split("/")[1]) for name in chosen])
    np.savez(out, images=images, labels=labels)
    return out


def main() -> None:
    """Measure what is missing, and write the table after every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cifar", type=a_zip, help="zip of CIFAR-10")
    parser.add_argument("--only", metavar="NAME", help="measure this network alone")
    parser.add_argument("--again", action="store_true", help="measure every network anew")
    options = parser.parse_args()
    table: Table = json.loads(RECORD.read_text()) if RECORD.exists() and not options.again else {}
    names = trained_classifiers()
    table = {name: figures for name, figures in table.items() if name in names}
    with tempfile.TemporaryDirectory() as folder:
        cifar = pictures(options.cifar, Path(folder) / "cifar.npz")
        for name in (n for n in names if n not in table and options.only in (None, n)):
            table[name] = {
                form: measured(name, compression, cifar, Path(folder)) for form, compression in FORMS.items()
            }
            print(name, table[name], flush=True)
            RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
            PAGE.write_text(page(table))


if __name__ == "__main__":
    main()
