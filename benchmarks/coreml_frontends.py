"""Our lowering from the ONNX graph beside coremltools' own front end for torch, on small networks of the zoo.

Both make an ML Program in float32 for iOS 17 of the same folded module, with one fixed batch size. Compared
are the number of operators, the size on disk, the error against torch in the reference evaluator of MIL, and
the time from the module to the saved package, in interleaved rounds. Writes JSON and
its page:

    python benchmarks/coreml_frontends.py ep_nano ninformer_nano --rounds 3
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fourfold.export.parity import fresh_inputs, parity
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.quiet import quiet
from fourfold.export.reparam import reparameterize
from fourfold.export.to_onnx import to_onnx
from fourfold.export.torch_run import torch_run
from fourfold.models.sources import resolve
from fourfold.models.spec import ModelSpec
from fourfold.models.weights import build_model
from fourfold.runtimes.coreml.mil.program import Program, load_program
from fourfold.runtimes.coreml.sdk import coremltools, target_of
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import get_runtime
from fourfold.runtimes.reference import evaluate

HERE = Path(__file__).parent
SYSTEM = "iOS17"
_ALIAS = {torch.ops.aten.alias.default: lambda x: x}
"""Takes away the aliases that torch 2.13 writes: coremltools 9 refuses a network that has one."""
Convert = Callable[[nn.Module, ModelSpec, Path], Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    path = HERE / "coreml_frontends.json"
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in options.names:
        rows[name] = compared(name, options.rounds)
        print(name, rows[name], flush=True)
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (HERE / "coreml_frontends.md").write_text(page(rows), encoding="utf-8")


def ours(module: nn.Module, spec: ModelSpec, folder: Path) -> Path:
    """Export, rewrite and lower, each step proven as in the walk."""
    runtime = get_runtime("coreml")
    opset = runtime.capabilities.opset
    exported = to_onnx(module, spec.name, spec.inputs, spec.outputs, opset=opset, evaluate=evaluate)
    exported = rewrite(exported, COMMON + runtime.passes, evaluate=evaluate)
    return runtime.compile(exported, get_device("iphone-15"), folder)


def theirs(module: nn.Module, spec: ModelSpec, folder: Path) -> Path:
    """Trace with torch.export and convert with coremltools, as its guide says."""
    ct, feed = coremltools(), fresh_inputs(spec.inputs, batch=1, seed=0)
    with quiet():
        program = torch.export.export(module, tuple(torch.from_numpy(feed[s.name]) for s in spec.inputs))
        model = ct.convert(
            program.run_decompositions(_ALIAS),
            minimum_deployment_target=target_of(SYSTEM),
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
            package_dir=str(folder / "model.mlpackage"),
        )
        del model
    return folder / "model.mlpackage"


def compared(name: str, rounds: int) -> dict[str, Any]:
    """Convert one network both ways, in turn."""
    spec = resolve(name, input_shape=None, preprocess=None)
    assert isinstance(spec, ModelSpec)
    bound = replace(
        spec,
        inputs=tuple(replace(s, shape=tuple(1 if d == "batch" else d for d in s.shape)) for s in spec.inputs),
    )
    module, _ = reparameterize(build_model(spec, weights=None, seed=0), spec.inputs, seed=0)
    module.eval()
    ways: dict[str, Convert] = {"fourfold": ours, "coremltools": theirs}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    rows: dict[str, Any] = {}
    for turn in range(rounds):
        for way in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                try:
                    package = ways[way](module, bound, Path(folder))
                except Exception as error:  # a front end that gives up is a result
                    rows[way] = {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:160]}
                    continue
                seconds[way].append(time.perf_counter() - start)
                rows[way] = facts(package, module, bound)
                shutil.rmtree(package)
    for way, row in rows.items():
        if seconds[way]:
            row["seconds"] = [round(s, 2) for s in seconds[way]]
    return rows


def facts(package: Path, module: nn.Module, spec: ModelSpec) -> dict[str, Any]:
    """Count what a package holds, and how far its answers are from torch."""
    program = load_program(package)
    feed = fresh_inputs(spec.inputs, batch=1, seed=7)
    wanted = torch_run(module, spec.inputs, spec.outputs)(feed)
    found = parity(
        "fp32", wanted, answers(program, list(feed.values()), spec), names=("torch", "MIL"), batch=1
    )
    return {
        "operators": sum(program.counts.values()),
        "megabytes": round(sum(p.stat().st_size for p in package.rglob("*") if p.is_file()) / 1e6, 2),
        "relative_error": found.relative,
    }


def answers(program: Program, arrays: list[Any], spec: ModelSpec) -> dict[str, Any]:
    """Run by position: the front ends name inputs and outputs differently."""
    given = program.run({i.name: a for i, a in zip(program.inputs, arrays, strict=True)})
    return dict(zip(spec.outputs, (given[o.name] for o in program.outputs), strict=True))


def page(rows: dict[str, Any]) -> str:
    """Write the table."""
    lines = [
        "# Two ways from a torch module to a Core ML package",
        "",
        "Written by `benchmarks/coreml_frontends.py`: float32, iOS 17, batch 1, the folded module. *Error*",
        "is the largest one against torch over the largest answer, in the reference evaluator of MIL;",
        "*seconds* is the median of interleaved rounds, ours with every step proven on fresh inputs.",
        "",
        "| network | way | operators | MB | error | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, ways in rows.items():
        for way, row in ways.items():
            if "reason" in row:
                lines.append(f"| {name} | {way} | {row['reason'].replace('|', '/')} | | | |")
                continue
            figures = f"{row['operators']} | {row['megabytes']} | {row['relative_error']:.1e}"
            lines.append(f"| {name} | {way} | {figures} | {statistics.median(row['seconds']):.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
