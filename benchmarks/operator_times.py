"""Which operators take the time: each engine's own profile of one graph.

A node counts with its fastest run, so that a busy machine blurs the picture less; the sum is therefore a
little below the latency.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

Feed = dict[str, np.ndarray]
RUNS = 12


def ort_operators(path: Path, feed: Feed) -> dict[str, float]:
    """Profile a graph in ONNX Runtime: milliseconds by operator, the largest first."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    return _by_operator(times)


def ov_operators(path: Path, feed: Feed) -> dict[str, float]:
    """Profile a graph in OpenVINO with all shapes known: milliseconds by kind of node, the largest first."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape({name: list(array.shape) for name, array in feed.items()})
    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", {**config, "PERF_COUNT": True}).create_infer_request()
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(RUNS):
        request.infer(feed)
        for node in request.profiling_info:
            if milliseconds := node.real_time.total_seconds() * 1e3:
                times[node.node_type, node.node_name].append(milliseconds)
    return _by_operator(times)


def _by_operator(times: dict[tuple[str, str], list[float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for (operator, _), taken in times.items():
        total[operator] += min(taken)
    return {k: round(v, 3) for k, v in sorted(total.items(), key=lambda item: -item[1])}
