"""What float16 does to the decisions of routed networks, and which form of it keeps them: half_decisions.md.

    python benchmarks/half_decisions.py moh_vit_nano m3vit_nano --inputs 16 --graphs out/graphs

Each network is written in float16 in the forms that ``export/precision.py`` tries, and in two that it does
not, and asked about inputs that no step has seen. Every float16 tensor is rounded (``export/rounded.py``).
Rows of other networks stay; ``--graphs`` keeps exported graphs, as in ``coreml_zoo.py``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from coreml_zoo import graph_of

from fourfold.export.artifact import Array, Exported, Feed, Run
from fourfold.export.decisions import before, counts, decisions, scores, streams
from fourfold.export.half import halve
from fourfold.export.half_range import magnitudes
from fourfold.export.parity import fresh_inputs, parity
from fourfold.export.precision import name_and_check, stays
from fourfold.export.rounded import rounded
from fourfold.export.rules.shapes import infer_shapes
from fourfold.runtimes.reference import evaluate

PAGE = Path(__file__).with_suffix(".md")
RECORD = PAGE.with_suffix(".json")
SEED = 500

HEAD = """# Decisions in float16

Written by `benchmarks/half_decisions.py` from `benchmarks/half_decisions.json`. Each routed network in
several forms of float16, on fresh random inputs one by one, against its float32 graph. *Flips* are
decisions, one a layer and token, that fall otherwise. `--precision fp16` writes float16 throughout or, in
this order, the first of the forms with *scores and sums* that keeps 40 dB on every input it tries
(`export/precision.py`); rounded weights and scores alone are shown only. Weights are random where none are
shipped, which makes the scores of a router nearly equal."""

Form = tuple[str, set[ir.Node] | None]
"""Its name, and the nodes it keeps in float32; None rounds the weights and nothing else."""


def forms(model: ir.Model, found: Sequence[ir.Node]) -> Iterator[Form]:
    """Give every form that is measured."""
    careful = scores(found).keys() | streams(model, found).keys()
    yield "weights rounded, float32 throughout", None
    yield "float16 throughout", set()
    yield "scores in float32", set(scores(found))
    for count in counts(found):
        more = f" and all before {count} of them" if count else ""
        yield f"scores and sums{more} in float32", careful | before(model, found[:count]).keys()


def measured(exported: Exported, inputs: int) -> Iterator[dict[str, Any]]:
    """Give one row a form."""
    model = exported.model.clone()
    infer_shapes(model)
    name_and_check(model, exported.name)
    found = decisions(model)
    watched = [v.name or "" for node in found for v in node.outputs if v.dtype and v.dtype.is_integer()]
    always = stays(model, magnitudes(model, exported.golden.inputs, evaluate))
    feeds = [fresh_inputs(exported.inputs, batch=1, seed=SEED + i) for i in range(inputs)]
    plain = watching(model, watched)
    wanted = [plain(feed) for feed in feeds]
    for name, kept in forms(model, found):
        half = model.clone()
        if kept is None:
            halved, run = 0, watching(half_weights(half), watched)
        else:
            names = {node.name for node in kept} | always.keys()
            halved = halve(half, lambda node, names=names: node.name in names)
            run = watching(rounded(half), watched)
        rows = [
            compared(exported, reference, run(feed), watched)
            for reference, feed in zip(wanted, feeds, strict=True)
        ]
        levels = [level for level, _, _ in rows]
        yield {
            "form": name,
            "halved": halved,
            "nodes": model.graph.num_nodes(),
            "weights": weights_share(half) if halved else 0.0,
            "mean_db": round(float(np.mean(levels)), 1),
            "worst_db": round(min(levels), 1),
            "flips": sum(flips for _, flips, _ in rows),
            "decisions": sum(count for _, _, count in rows),
            "inputs": inputs,
        }


def watching(model: ir.Model, watched: Sequence[str]) -> Run:
    """Make a graph runnable that gives its decisions as well."""
    probed = model.clone()
    values = {v.name: v for node in probed.graph for v in node.outputs}
    given = {v.name for v in probed.graph.outputs}
    probed.graph.outputs.extend(values[name] for name in watched if name not in given)
    return evaluate(probed)


def compared(exported: Exported, wanted: Feed, got: Feed, watched: Sequence[str]) -> tuple[float, int, int]:
    """Give decibel, decisions that fall otherwise, and decisions; the order of the best does not matter."""
    outputs = [spec.name for spec in exported.outputs]
    pair = ({name: answers[name] for name in outputs} for answers in (wanted, got))
    level = parity("fp16", *pair, names=("float", "form"), batch=1).sqnr_db
    apart = [(_sets(wanted[name]) != _sets(got[name])).any(-1) for name in watched]
    return level, int(sum(a.sum() for a in apart)), int(sum(a.size for a in apart))


def _sets(chosen: Array) -> Array:
    return np.sort(np.atleast_1d(chosen), -1)


def half_weights(model: ir.Model) -> ir.Model:
    """Round every float32 weight to one that float16 has."""
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.dtype == ir.DataType.FLOAT:
            array = value.const_value.numpy().astype(np.float16).astype(np.float32)
            value.const_value = ir.tensor(array, name=value.name)
    return model


def weights_share(model: ir.Model) -> float:
    """Give the share of weights that are float16."""
    sizes = {ir.DataType.FLOAT16: 0, ir.DataType.FLOAT: 0}
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in sizes:
            sizes[value.const_value.dtype] += value.const_value.size
    return round(sizes[ir.DataType.FLOAT16] / max(1, sum(sizes.values())), 3)


def line(row: dict[str, Any]) -> str:
    """Write one row of the page."""
    flips = f"{row['flips']} of {row['decisions']} ({100 * row['flips'] / row['decisions']:.3f} %)"
    nodes, weights = f"{row['halved']} of {row['nodes']}", f"{100 * row['weights']:.0f} %"
    return f"| {row['form']} | {nodes} | {weights} | {row['mean_db']} | {row['worst_db']} | {flips} |"


def page(table: dict[str, list[dict[str, Any]]]) -> str:
    """Write the page."""
    lines = [HEAD]
    for name, rows in sorted(table.items()):
        lines += ["", f"## {name}, {rows[0]['inputs']} inputs", ""]
        lines += ["| form | nodes in float16 | weights in float16 | SQNR dB, mean | worst | flips |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: |", *map(line, rows)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and write the page after every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--graphs", type=Path)
    options = parser.parse_args()
    for name in options.names:
        rows: list[dict[str, Any]] = []
        for row in measured(graph_of(name, options.graphs), options.inputs):
            rows.append(row)
            print(name, row, flush=True)
        table = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        table[name] = rows
        RECORD.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        PAGE.write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
