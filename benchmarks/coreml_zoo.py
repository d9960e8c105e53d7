"""Networks of the zoo as Core ML packages: saved, read back, evaluated against torch, listed with a reason.

Writes one row per network to ``coreml_zoo.json`` and the page ``docs/coreml.md`` from it:

    python benchmarks/coreml_zoo.py ninformer smt_t --graphs out/graphs

Rows of other networks stay. ``--graphs`` keeps exported graphs with the answers of torch, so that a second
run does not export them again. Run it where nothing else is timed: the large networks take minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from coreml_zoo_page import page

from fourfold.errors import FourfoldError
from fourfold.export.artifact import Exported, Golden
from fourfold.export.parity import TOLERANCES, parity
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.precision import to_fp16
from fourfold.harness.console import Silent
from fourfold.harness.origin import trace
from fourfold.models.sources import resolve
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate
from fourfold.runtimes.sessions import specs_from_json, specs_to_json

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "coreml_zoo.json", HERE.parent / "docs" / "coreml.md"
DEVICE = "iphone-15"
FLOORS_DB = {"fp32": 60.0, "fp16": TOLERANCES["fp16"].sqnr_db}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--precision", choices=list(FLOORS_DB), action="append")
    options = parser.parse_args()
    for name in options.names:
        for precision in options.precision or list(FLOORS_DB):
            keep(name, precision, measured(name, precision, options.graphs))


def measured(name: str, precision: str, graphs: Path | None) -> dict[str, Any]:
    """Take one network to a package and back, or say what stood in the way."""
    runtime, device = get_runtime("coreml"), get_device(DEVICE)
    try:
        exported = graph_of(name, graphs)
        nodes = exported.model.graph.num_nodes()
        if precision == "fp16":
            exported = to_fp16(exported, evaluate=evaluate)
        with tempfile.TemporaryDirectory() as folder:
            compiled = runtime.compile(exported, device, Path(folder))
            size = sum(path.stat().st_size for path in compiled.rglob("*") if path.is_file())
            with runtime.open(compiled, device) as session:
                answers = session.run(exported.golden.inputs)
                operators = sum(part.nodes for part in session.executed())
    except FourfoldError as error:
        return {"reason": str(error)}
    batch = len(next(iter(exported.golden.inputs.values())))
    found = parity(precision, exported.golden.outputs, answers, names=("torch", "package"), batch=batch)
    return {
        "nodes": nodes,
        "operators": operators,
        "megabytes": round(size / 1e6, 2),
        "sqnr_db": round(found.sqnr_db, 1) if math.isfinite(found.sqnr_db) else None,
        "ok": found.sqnr_db >= FLOORS_DB[precision] and not found.why,
    }


def graph_of(name: str, graphs: Path | None) -> Exported:
    """Export a network with torch's answers to random inputs, or read back what an earlier run kept."""
    if graphs is not None and (graphs / f"{name}.npz").exists():
        return kept(name, graphs)
    source, runtime = resolve(name, input_shape=None, preprocess=None), get_runtime("coreml")
    origin = trace(source, runtime, weights=None, seed=0, narrator=Silent())
    exported = replace(rewrite(origin.exported, COMMON + runtime.passes, evaluate=evaluate), history=())
    if graphs is not None:
        graphs.mkdir(parents=True, exist_ok=True)
        ir.save(exported.model, graphs / f"{name}.onnx")
        golden = {f"in:{k}": v for k, v in exported.golden.inputs.items()}
        golden |= {f"out:{k}": v for k, v in exported.golden.outputs.items()}
        specs = np.array([specs_to_json(exported.inputs), specs_to_json(exported.outputs)])
        np.savez(graphs / f"{name}.npz", specs=specs, **golden)
    return exported


def kept(name: str, graphs: Path) -> Exported:
    """Read a graph and its golden answers."""
    with np.load(graphs / f"{name}.npz") as file:
        inputs, outputs = (specs_from_json(str(text)) for text in file["specs"])
        golden = [
            {k.removeprefix(p): file[k] for k in file.files if k.startswith(p)} for p in ("in:", "out:")
        ]
    return Exported(name, ir.load(graphs / f"{name}.onnx"), inputs, outputs, Golden(golden[0], golden[1]))


def keep(name: str, precision: str, row: dict[str, Any]) -> None:
    """Put one row into the results, and write the page anew."""
    rows: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows.setdefault(name, {})[precision] = row
    RESULTS.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows, FLOORS_DB), encoding="utf-8")
    print(name, precision, row, flush=True)


if __name__ == "__main__":
    main()
