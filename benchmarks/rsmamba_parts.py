"""Where the time of one layer of RSMamba-B goes, and what each rewrite of its graph is worth.

    OMP_NUM_THREADS=1 python benchmarks/rsmamba_parts.py

784 tokens, three paths, batch 1, one thread, beside the loop in torch of ``rsmamba_layer.py``. ``scan`` is
the recurrence alone, from step sizes, inputs and gates that are given; ``rest`` is the layer with the sum of
those in its place. A rewrite is measured by leaving it out. The figures are processor times, which for one
thread are wall times of a machine with nothing else to do. ``ov kernels`` is what OpenVINO's own clock says
of the operators in all iterations of the scan: what is left of it if nothing else of a loop costs time.

Axis letters: L tokens, P paths, B batch, I inner width, N states.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnx_ir as ir
import rsmamba_layer as layer
import torch
from torch import Tensor, nn

import fourfold.models.rsmamba_deploy as deploy
from fourfold.export.artifact import Exported
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.to_onnx import to_onnx
from fourfold.models.scan import selective_scan
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.ort import RUNTIME as ORT
from fourfold.runtimes.ov import RUNTIME as OV
from fourfold.runtimes.reference import evaluate

OUT = Path(__file__).with_suffix(".md")
ROUNDS, BURST = 10, 4
REWRITES = {"ort": ("scan_products",), "ov": ("scan_products", "unroll_scan", "batch_to_columns")}
ENGINES = {"ort": (ORT, layer.ort_call), "ov": (OV, layer.ov_call)}
GOAL = 20


class Scan(nn.Module):
    """The recurrence alone."""

    rates: Tensor

    def __init__(self, rates: Tensor) -> None:
        super().__init__()
        self.register_buffer("rates", rates)

    def forward(self, u: Tensor, dt: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """(L, P, B, I) twice and (L, P, B, N) twice to (L, P, B, I)."""
        return selective_scan(u, 0.03 * dt.abs(), self.rates, b, c)


def in_its_place(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Read all that the scan reads, and give what has its shape."""
    return u + dt + (b + c).sum(-1, keepdim=True)


def graph(module: nn.Module, specs: tuple[TensorSpec, ...]) -> Exported:
    """Export, with the rewrites that every engine gets."""
    exported = to_onnx(module.eval(), "part", specs, ("y",), opset=20, evaluate=evaluate)
    return rewrite(exported, COMMON, evaluate=evaluate)


def written_for(engine: str, exported: Exported, without: str = "") -> ir.Model:
    """Give an engine's graph, with one of its rewrites left out."""
    names = tuple(name for name in ENGINES[engine][0].passes if name != without)
    return rewrite(exported, names, evaluate=evaluate).model


def calls() -> tuple[dict[str, Callable[[], Any]], ir.Model]:
    """Give everything that is timed, by engine and part, and OpenVINO's graph of the scan."""
    net = layer.network()
    whole = net.fused().layers[0]
    paths, inner = 3, len(whole.bias)
    sizes = {"u": inner, "dt": inner, "b": len(whole.rates), "c": len(whole.rates)}
    specs = tuple(TensorSpec(n, (layer.LAYER.tokens, paths, "batch", size)) for n, size in sizes.items())
    random = np.random.default_rng(0)
    gates = {s.name: random.standard_normal(s.concrete(batch=1)).astype(np.float32) for s in specs}
    x = torch.randn(1, layer.LAYER.tokens, layer.LAYER.dim)
    tokens = {"x": x.transpose(0, 1).contiguous().numpy()}
    exported, scan = graph(whole, layer.SPECS), graph(Scan(whole.rates), specs)
    with patch.object(deploy, "selective_scan", in_its_place):
        rest = graph(whole, layer.SPECS)
    found: dict[str, Callable[[], Any]] = {"loop": lambda: layer.eager_layer(net, x)}
    for engine, (_, opened) in ENGINES.items():
        found[f"{engine} whole"] = opened(written_for(engine, exported), tokens)
        found[f"{engine} scan"] = opened(written_for(engine, scan), gates)
        found[f"{engine} rest"] = opened(written_for(engine, rest), tokens)
        for name in REWRITES[engine]:
            found[f"{engine} without {name}"] = opened(written_for(engine, exported, name), tokens)
    return found, written_for("ov", scan)


def scan_kernels(model: ir.Model) -> list[float]:
    """Run the body of a graph's scan on its own: milliseconds of its operators times iterations, by round."""
    import openvino

    whole = ir.to_proto(model)
    scan = next(node for node in whole.graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    read = {name for node in body.node for name in node.input}
    body.initializer.extend(value for value in whole.graph.initializer if value.name in read)
    alone = onnx.helper.make_model(body, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    core = openvino.Core()
    network = core.read_model(alone.SerializeToString())
    network.reshape({i.any_name: [1 if d.is_dynamic else d for d in i.partial_shape] for i in network.inputs})
    request = core.compile_model(
        network, "CPU", layer.OV_CONFIG | {"PERF_COUNT": True}
    ).create_infer_request()
    random = np.random.default_rng(0)
    feed = {i.any_name: 0.1 * random.random(i.shape, dtype=np.float32) for i in network.inputs}
    iterations = layer.LAYER.tokens / next(i.shape[0] for i in network.inputs[1:])

    def once() -> float:
        request.infer(feed)
        return sum(node.real_time.total_seconds() for node in request.get_profiling_info())

    return [1e3 * iterations * float(np.median([once() for _ in range(50)])) for _ in range(1 + ROUNDS)][1:]


def timed(calls: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Run everything in turn; milliseconds of processor time by name, one a round."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, call in calls.items():
                call()  # finds the cache of another
                taken[name].append(float(np.median([layer.clocked(call) for _ in range(BURST)])))
    return taken


def page(taken: dict[str, list[float]]) -> str:
    """Write the table."""
    loop = np.array(taken["loop"])
    rows = [
        f"| {name} | {layer.quartiles(np.array(times))} | {layer.quartiles(loop / np.array(times))} |"
        for name, times in taken.items()
        if name != "loop"
    ]
    lines = [
        "# Where the time of a layer of RSMamba-B goes",
        "",
        "Written by `benchmarks/rsmamba_parts.py`: 784 tokens, three paths, batch 1, float32, one thread,",
        f"processor time; median and quartiles of {ROUNDS} rounds in turn.",
        f"The loop in torch takes {layer.quartiles(loop, 0)} ms; {GOAL} times as fast is "
        f"{np.median(loop) / GOAL:.1f} ms.",
        "",
        "| engine and part | ms | the loop takes times as long |",
        "| --- | --- | --- |",
        *rows,
        "",
        *verdict({name: float(np.median(times)) for name, times in taken.items()}),
    ]
    return "\n".join([*lines, ""])


def verdict(median: dict[str, float]) -> list[str]:
    """Say what stands between each engine and the goal."""
    said = []
    for engine in ENGINES:
        best, rest, goal = median[f"{engine} whole"], median[f"{engine} rest"], median["loop"] / GOAL
        free = median["loop"] / rest
        said.append(
            f"* {engine}: {median['loop'] / best:.1f} times as fast. Were its scan free it would be "
            f"{free:.1f} times: the rest takes {rest:.1f} of the {goal:.1f} ms that {GOAL} times would leave."
        )
    least = median["ov kernels"] + median["ov rest"]
    said.append(
        f"* ov: were all of its scan free but the operators, it would be {median['loop'] / least:.1f} times: "
        f"they take {median['ov kernels']:.1f} ms, and with the rest {least:.1f}."
    )
    return said


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    found, scan = calls()
    taken = timed(found) | {"ov kernels": scan_kernels(scan)}
    text = page(taken)
    OUT.write_text(text)
    record = {name: [round(t, 3) for t in times] for name, times in taken.items()}
    OUT.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
