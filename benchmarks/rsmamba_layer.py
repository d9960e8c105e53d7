"""One layer of RSMamba-B beside the unrolled loop: 784 tokens, three paths, batch 1, one thread.

    OMP_NUM_THREADS=1 python benchmarks/rsmamba_layer.py

Four forms of the loop are the measure. ``eager`` is the layer as public code has it, step by step in torch,
the three paths as a batch of three and the decays of all steps computed ahead; ``eager within`` computes each
decay in its step, which spares the memory. ``traced`` is the first as torch's exporter writes it, in ONNX
Runtime; ``unrolled`` is our graph with the 784 steps written out as nodes. ``ours`` is what a bundle of the
engine holds. Everything runs in turn in one process, and a ratio is taken within each round. Times are
processor times, which for one thread are wall times of a machine with nothing else to do. At the end the
whole network is exported.

More than half of the first loop's time is the clearing of fresh memory, which a C library gives back and asks
for again at every call: with ``MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184`` in
front it took 87 ms, and ours the same as without.

Axis letters: B batch, L tokens, D width of a token, I inner width, N states.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fourfold.export.artifact import Exported
from fourfold.export.passes import COMMON, rewrite
from fourfold.export.reparam import reparameterize
from fourfold.export.rules.unroll_scan import UnrollScan
from fourfold.export.to_onnx import to_onnx
from fourfold.models.registry import get_spec
from fourfold.models.rsmamba import Mixer, RsMamba, RsMambaConfig
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.ort import RUNTIME as ORT
from fourfold.runtimes.ov import RUNTIME as OV
from fourfold.runtimes.reference import evaluate

OUT = Path(__file__).with_suffix(".md")
LAYER = RsMambaConfig(depth=1, dim=192)
"""A layer of RSMamba-B in a network of one."""
ROUNDS, BURST = 12, 3
"""Every form runs ``BURST`` times in a row in each round, and the median counts: the first run after another
form finds a cold cache."""
OV_CONFIG = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
SPECS = (TensorSpec("x", (LAYER.tokens, "batch", LAYER.dim)),)


def network() -> RsMamba:
    """Build it with random weights that are nowhere zero or one."""
    torch.manual_seed(0)
    net = RsMamba(LAYER).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return net


Recurrence = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""From u, dt (B, I, L), a (I, N), b, c (B, L, N) to (B, I, L)."""


def ahead(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Loop as public code does: the decays and drives of all steps stand in memory before the first step."""
    decay = torch.exp(a[:, None] * dt.unsqueeze(-1))  # (B, I, L, N)
    drive = dt.unsqueeze(-1) * b.unsqueeze(1) * u.unsqueeze(-1)
    h = torch.zeros_like(decay[:, :, 0])
    answers: list[Tensor] = []
    for t in range(u.shape[-1]):
        h = decay[:, :, t] * h + drive[:, :, t]
        answers.append((h @ c[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(answers, dim=-1)


def within(u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Loop with everything of a step computed in its step, so that all of it stays in the cache."""
    u, dt = (t.mT.contiguous().unsqueeze(-1) for t in (u, dt))  # (B, L, I, 1)
    h = torch.zeros(len(u), *a.shape)
    answers: list[Tensor] = []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t] * a) * h + dt[:, t] * u[:, t] * b[:, t, None]
        answers.append((h * c[:, t, None]).sum(-1))
    return torch.stack(answers, dim=-1)


def eager_layer(net: RsMamba, x: Tensor, recurrence: Recurrence = ahead) -> Tensor:
    """Compute (B, L, D) to the same shape as public code does."""
    own, order = net.backbone, net.backbone.order[0]
    normed = own.pre_norm(x)
    read = torch.cat([normed[:, path] for path in order.unbind(1)])
    mixed = eager_mixer(own.layers[0], read, recurrence).chunk(3)
    back = [y[:, path.argsort()] for y, path in zip(mixed, order.unbind(1), strict=True)]
    gates = own.gate_layers[0](torch.cat([y.mean(dim=1) for y in back], dim=-1))
    return x + sum(g.unsqueeze(-1) * y for g, y in zip(gates.split(1, dim=-1), back, strict=True))


def eager_mixer(mixer: Mixer, x: Tensor, recurrence: Recurrence) -> Tensor:
    """Compute (B, L, D) to the same shape, channels before tokens, one step after the other."""
    u, z = mixer.in_proj(x).transpose(1, 2).chunk(2, dim=1)
    u = F.silu(mixer.conv1d(u)[..., : x.shape[1]])
    dt, b, c = mixer.x_proj(u.transpose(1, 2)).split(mixer.sizes, dim=-1)
    dt = F.softplus(mixer.dt_proj(dt)).transpose(1, 2)
    y = recurrence(u, dt, -mixer.A_log.exp(), b, c) + mixer.D[:, None] * u
    return mixer.out_proj((y * F.silu(z)).transpose(1, 2))


class Eager(nn.Module):
    """The layer as public code does it, as a module that can be traced."""

    def __init__(self, net: RsMamba) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to the same shape."""
        return eager_layer(self.net, x)


def traced(net: RsMamba, x: Tensor) -> ir.Model:
    """Export the loop by running it once, as is done with code that is taken as it is."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Eager(net), (x,), file, dynamo=False, opset_version=20, input_names=["x"])
    return ir.from_proto(onnx.load_from_string(file.getvalue()))


def ort_call(model: ir.Model, feed: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Open a graph in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)[0]


def ov_call(model: ir.Model, feed: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Open a graph in OpenVINO."""
    import openvino

    core = openvino.Core()
    read = core.read_model(ir.to_proto(model).SerializeToString())
    read.reshape({name: list(array.shape) for name, array in feed.items()})
    request = core.compile_model(read, "CPU", OV_CONFIG).create_infer_request()
    return lambda: next(iter(request.infer(feed).values()))


def written_out(exported: Exported) -> ir.Model:
    """Write all steps out as nodes."""
    model = exported.model.clone()
    assert UnrollScan(most=LAYER.tokens)(model).modified
    return model


def timed(calls: dict[str, Callable[[], Any]]) -> dict[str, np.ndarray]:
    """Run everything in turn; milliseconds by name, one a round. The first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            taken[name].append(float(np.median([clocked(call) for _ in range(BURST)])))
    return {name: np.array(times[1:]) for name, times in taken.items()}


def clocked(call: Callable[[], Any]) -> float:
    """Give the milliseconds of processor time of one call."""
    start = time.process_time_ns()
    call()
    return (time.process_time_ns() - start) / 1e6


def layer_calls() -> dict[str, Callable[[], np.ndarray]]:
    """Give every form as a call, each compared with the first."""
    net = network()
    x = torch.randn(1, LAYER.tokens, LAYER.dim)
    feed = {"x": x.transpose(0, 1).contiguous().numpy()}
    exported = to_onnx(net.fused().layers[0], "layer", SPECS, ("y",), opset=20, evaluate=evaluate)
    exported = rewrite(exported, COMMON, evaluate=evaluate)
    unrolled = written_out(exported)
    own = {r.name: rewrite(exported, r.passes, evaluate=evaluate).model for r in (ORT, OV)}

    def eager(recurrence: Recurrence) -> np.ndarray:
        with torch.inference_mode():
            return eager_layer(net, x, recurrence).transpose(0, 1).numpy()

    loop = ort_call(traced(net, x), {"x": x.numpy()})
    calls = {
        "traced": lambda: loop().transpose(1, 0, 2),
        "eager": partial(eager, ahead),
        "eager within": partial(eager, within),
        "unrolled ort": ort_call(unrolled, feed),
        "unrolled ov": ov_call(unrolled, feed),
        "ours ort": ort_call(own["ort"], feed),
        "ours ov": ov_call(own["ov"], feed),
    }
    expected = eager(ahead)
    for name, call in calls.items():
        off = np.abs(call() - expected).max() / np.abs(expected).max()
        assert off < 1e-5, f"{name} is off by {off:.1e}"
    return calls


def export_seconds(name: str = "rsmamba_b") -> tuple[float, int]:
    """Fold, export and rewrite a whole network: seconds, and nodes of the graph."""
    spec = get_spec(name)
    start = time.process_time()
    folded, _ = reparameterize(spec.build(), spec.inputs)
    exported = to_onnx(folded, name, spec.inputs, spec.outputs, opset=20, evaluate=evaluate)
    exported = rewrite(exported, COMMON, evaluate=evaluate)
    return time.process_time() - start, exported.model.graph.num_nodes()


def quartiles(values: np.ndarray, digits: int = 1) -> str:
    """Write the median and the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def page(times: dict[str, np.ndarray], seconds: float, nodes: int) -> str:
    """Write the table."""
    rows = [
        f"| {engine} | {quartiles(ours)} | {quartiles(times[f'unrolled {engine}'] / ours)} | "
        f"{quartiles(times['eager'] / ours)} | {quartiles(times['eager within'] / ours)} | "
        f"{quartiles(times['traced'] / ours)} |"
        for engine, ours in ((e, times[f"ours {e}"]) for e in ("ort", "ov"))
    ]
    lines = [
        "# A layer of RSMamba-B beside the unrolled loop",
        "",
        "Written by `benchmarks/rsmamba_layer.py`: 784 tokens, three paths, batch 1, float32, one thread,",
        f"processor time; median and quartiles of {ROUNDS} rounds in turn, bursts of {BURST}.",
        f"The loop in torch takes {quartiles(times['eager'], 0)} ms as public code writes it, all decays",
        f"before the first step, {quartiles(times['eager within'], 0)} ms with each decay in its step, and",
        f"the former {quartiles(times['traced'], 0)} ms in ONNX Runtime, as torch's exporter writes it.",
        "How many times as fast as each of them ours is:",
        "",
        "| engine | ours, ms | steps as nodes | loop of public code | decays in steps | exported loop |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"The whole network folds, exports and rewrites in {seconds:.0f} s, to {nodes} nodes.",
        "Where the time goes: `rsmamba_parts.md`.",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    times = timed(layer_calls())
    seconds, nodes = export_seconds()
    text = page(times, seconds, nodes)
    OUT.write_text(text)
    record = {name: [round(t, 3) for t in taken] for name, taken in times.items()}
    OUT.with_suffix(".json").write_text(
        json.dumps({"ms": record, "export_seconds": seconds}, indent=1) + "\n"
    )
    print(text)


if __name__ == "__main__":
    main()
