"""Every route from one torch module to an inference on this CPU, side by side: other tools' and ours.

    python benchmarks/routes.py --rounds 40 --models smt_t smt_nano timm/repvit_m0_9 -o benchmarks/routes.json

One thread, batch 1. All routes of a model are open in one process; a round runs each of them once, in an
order drawn by lot: one call to refill the caches, then a few timed ones whose median is the round's figure.
Ratios are formed within a round, so a machine that is busy for a while slows both sides of a ratio, and of
processor time, which on one thread is the latency of a processor that nobody else uses.
Writes the JSON, and a page of the same name ending in ``.md``.
Needs the extras ``openvino``, ``timm`` and ``bench``.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from operator_times import ort_operators, ov_operators
from peer_routes import (
    Call,
    eager,
    inductor,
    nncf_int8,
    ort_call,
    ov_call,
    plain_export,
    quantize_static,
)
from routes_page import page
from smt_tokens import TokenSmt

from fourfold.calibration.scheme import QuantScheme
from fourfold.export.artifact import Exported
from fourfold.harness.console import Silent
from fourfold.harness.host import host, tools
from fourfold.harness.latency import quiet
from fourfold.harness.materials import Materials, gather
from fourfold.harness.origin import Origin, trace
from fourfold.harness.resample import midmean_interval
from fourfold.harness.stats import sqnr_db
from fourfold.harness.steps import in_precision, rewritten
from fourfold.models.smt import Smt
from fourfold.models.sources import resolve
from fourfold.models.spec import ModelSpec
from fourfold.models.weights import build_model
from fourfold.runtimes.device import get_device
from fourfold.runtimes.engines import runtime_for

SAMPLES = 64
SLOT_MS = 30.0
EQUAL_DB = 90.0
"""A float route whose answer is farther from torch is another network."""
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "timm")
DEVICES = {"cpu-ort": "onnxruntime", "cpu-openvino": "openvino"}


@dataclass
class Route:
    """One route of one model; figures are filled in by the rounds."""

    name: str
    ours: bool
    precision: str
    call: Call
    sqnr_db: float = 0.0
    """Of the answer against torch eager, on the input that is timed."""
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time of this process, one entry per round."""
    wall_ms: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["smt_t", "smt_nano", "timm/repvit_m0_9"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--data", type=Path, help="images that calibrate models without shipped data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--update", action="store_true", help="keep the other models of the file")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/routes.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torch, nncf and onnxruntime about their own internals
    logging.disable(logging.WARNING)
    results: dict[str, Any] = {
        "host": asdict(host()),
        "tools": dict(tools((*PACKAGES, "fourfold"))),
        "threads": 1,
        "batch": 1,
        "models": _others(options.out, options.models) if options.update else [],
    }
    for name in options.models:
        results["models"].append(measure(name, options.data, options.rounds, options.seed))
        # After every model: one that fails does not take the others with it.
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(page(results), encoding="utf-8")
    print(page(results))


def _others(out: Path, names: list[str]) -> list[dict[str, Any]]:
    """Give what an earlier run found for other models; each carries its own date, rounds and load."""
    before = json.loads(out.read_text(encoding="utf-8"))["models"]
    return [model for model in before if model["model"] not in names]


def measure(name: str, data: Path | None, rounds: int, seed: int) -> dict[str, object]:
    """Build all routes of one model, take the rounds, and profile the two graphs in both engines."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as opened:
        folder = Path(made)
        spec = _spec(name)
        materials = _materials(spec, data, seed)
        x = _batches(materials)(1).__next__()
        module = build_model(spec, seed=seed)
        _say(f"{name}: routes of other tools")
        served = TokenSmt(module).eval() if isinstance(module, Smt) else module
        routes = [*_peers(served, x, materials, folder, transformer=isinstance(module, Smt))]
        _say(f"{name}: our routes")
        routes += _ours(spec, materials, x, folder, opened, seed)
        with torch.inference_mode():
            truth = module(torch.from_numpy(x)).numpy()
        for route in routes:
            route.sqnr_db = sqnr_db(truth, route.call())
            if route.precision == "fp32" and route.sqnr_db < EQUAL_DB:
                message = (
                    f"expected {route.name} to answer like torch, got {route.sqnr_db:.1f} dB; mend it first"
                )
                raise SystemExit(message)
        _say(f"{name}: {rounds} rounds of {len(routes)} routes")
        began = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": host().load}
        _take(routes, rounds, seed)
        assert materials.calibration is not None
        return {
            "model": name,
            "input": list(x.shape),
            "rounds": rounds,
            **began,
            "calibration": materials.calibration.source.description,
            **_figures(routes, seed),
            "operators_ms": _operators(folder, x),
        }


def _spec(name: str) -> ModelSpec:
    """Describe a model; random weights are made alive, so that no branch is exactly zero."""
    spec = resolve(name)
    assert isinstance(spec, ModelSpec)
    return spec if spec.weights else replace(spec, build=lambda: _alive(spec.build()))


def _alive(module: torch.nn.Module) -> torch.nn.Module:
    """Draw what norms start from as 0 or 1: many networks begin their residual branches with a zero."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(norm.weight, 0.3, 0.9)
            torch.nn.init.normal_(norm.bias, std=0.1)
        if isinstance(norm, torch.nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return module


def _materials(spec: ModelSpec, data: Path | None, seed: int) -> Materials:
    own = bool(spec.dataset)
    return gather(
        spec,
        spec.inputs,
        "int8",
        data=None if own else data,
        eval_data=None,
        synthetic=not own and data is None,
        scheme=QuantScheme(max_samples=SAMPLES),
        seed=seed,
    )


def _batches(materials: Materials) -> Callable[[int], Iterator[np.ndarray]]:
    """Give the calibration samples as bare arrays."""
    samples = materials.calibration
    assert samples is not None
    return lambda size: (np.ascontiguousarray(next(iter(feed.values()))) for feed in samples.batches(size))


def _peers(
    module: torch.nn.Module, x: np.ndarray, materials: Materials, folder: Path, *, transformer: bool
) -> Iterator[Route]:
    plain, static = folder / "plain.onnx", folder / "static.onnx"

    def samples() -> Iterator[np.ndarray]:
        return _batches(materials)(1)

    yield Route("torch eager", False, "fp32", eager(module, x))
    yield Route("torch.compile", False, "fp32", inductor(module, x))
    plain_export(module, x, plain)
    yield Route("torch.onnx.export, ONNX Runtime", False, "fp32", ort_call(plain, x))
    yield Route("torch.onnx.export, OpenVINO", False, "fp32", ov_call(plain, x))
    quantize_static(plain, samples, static)
    yield Route("quantize_static, ONNX Runtime", False, "int8", ort_call(static, x))
    model = nncf_int8(plain, samples, transformer=transformer)
    yield Route("NNCF, OpenVINO", False, "int8", ov_call(model, x))


def _ours(
    spec: ModelSpec, materials: Materials, x: np.ndarray, folder: Path, opened: ExitStack, seed: int
) -> Iterator[Route]:
    """Walk the steps of ``harness.deploy`` for both engines and both precisions."""
    for name in DEVICES:
        runtime = runtime_for(get_device(name))
        origin = trace(spec, runtime, weights=None, seed=seed, narrator=Silent())
        exported = rewritten(origin, runtime, materials, seed=seed, narrator=Silent())
        yield _route(exported, origin, name, x, folder, opened)
        integer = in_precision(exported, "int8", materials, runtime, get_device(name), narrator=Silent())
        yield _route(integer, origin, name, x, folder, opened)


def _route(
    exported: Exported, origin: Origin, device: str, x: np.ndarray, folder: Path, opened: ExitStack
) -> Route:
    target = get_device(device)
    runtime = runtime_for(target)
    out = folder / f"{device}-{exported.precision}"
    out.mkdir()
    compiled = runtime.compile(exported, target, out)
    session = opened.enter_context(runtime.open(compiled, target))
    feed, answer = {exported.inputs[0].name: x}, exported.outputs[0].name
    return Route(f"fourfold {device}", True, exported.precision, lambda: session.run(feed)[answer])


def _take(routes: list[Route], rounds: int, seed: int) -> None:
    """Time all routes once a round, in an order drawn by lot."""
    random = np.random.default_rng(seed)
    counts = [max(1, int(SLOT_MS / _milliseconds(route.call)[0])) for route in routes]
    with quiet():
        for _ in range(rounds):
            for index in random.permutation(len(routes)):
                routes[index].call()  # the others have filled the caches
                taken = [_milliseconds(routes[index].call) for _ in range(counts[index])]
                cpu, wall = np.median(taken, axis=0)
                routes[index].cpu_ms.append(float(cpu))
                routes[index].wall_ms.append(float(wall))


def _milliseconds(call: Call) -> tuple[float, float]:
    """Give processor and wall time of one call."""
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    call()
    return (time.process_time_ns() - cpu) / 1e6, (time.perf_counter_ns() - wall) / 1e6


def _figures(routes: list[Route], seed: int) -> dict[str, object]:
    """Summarise the rounds; ratios are against the fastest float route of another tool."""
    floats = [route for route in routes if not route.ours and route.precision == "fp32"]
    best = min(floats, key=lambda route: np.median(route.cpu_ms))
    rows: list[dict[str, object]] = []
    for route in routes:
        logs = np.log(np.array(best.cpu_ms) / np.array(route.cpu_ms))
        found = midmean_interval(logs, np.zeros(len(logs), np.int64), seed=seed)
        speed = {k: float(np.exp(v)) for k, v in vars(found).items()}
        rows.append(
            {
                "route": route.name,
                "ours": route.ours,
                "precision": route.precision,
                "cpu_median_ms": float(np.median(route.cpu_ms)),
                "cpu_min_ms": float(np.min(route.cpu_ms)),
                "cpu_quartiles_ms": [float(q) for q in np.percentile(route.cpu_ms, (25, 75))],
                "wall_median_ms": float(np.median(route.wall_ms)),
                "wall_min_ms": float(np.min(route.wall_ms)),
                "times_as_fast_as_best_float": speed,
                "sqnr_db": None if route.sqnr_db == np.inf else route.sqnr_db,
                "cpu_ms": [round(ms, 4) for ms in route.cpu_ms],
                "wall_ms": [round(ms, 4) for ms in route.wall_ms],
            }
        )
    return {"best_float": best.name, "routes": rows}


def _operators(folder: Path, x: np.ndarray) -> dict[str, dict[str, float]]:
    """Profile the plain graph and ours, in float, in both engines."""
    return {
        "ONNX Runtime, plain": ort_operators(folder / "plain.onnx", {"image": x}),
        "ONNX Runtime, fourfold": ort_operators(folder / "cpu-ort-fp32" / "model.onnx", {"image": x}),
        "OpenVINO, plain": ov_operators(folder / "plain.onnx", {"image": x}),
        "OpenVINO, fourfold": ov_operators(folder / "cpu-openvino-fp32" / "model.xml", {"image": x}),
    }


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


if __name__ == "__main__":
    main()
