"""Reports with made-up but realistic values, shared by the tests of documents, bundles, plots and pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from fourfold.calibration.ranges import DataSource
from fourfold.export.artifact import Refusal, Step
from fourfold.export.parity import Parity
from fourfold.harness.result import (
    Accuracy,
    Host,
    Interval,
    Latency,
    LatencySummary,
    Report,
    Verdict,
)
from fourfold.models.spec import TensorSpec
from fourfold.runtimes.runtime import Executed

MakeReport = Callable[..., Report]

HOST = Host("Example CPU @ 2.4 GHz", "x86_64", "Linux 6.1", 8, ("avx2", "avx512_vnni"), "performance", 0.31)


def make_samples(seed: int, *, median_ms: float = 1.9, n: int = 1200) -> np.ndarray:
    """Draw a right-skewed distribution with a few far outliers, as timings have."""
    rng = np.random.default_rng(seed)
    ms = median_ms * (1 + rng.gamma(2.0, 0.02, n)) + (rng.random(n) < 0.01) * median_ms * rng.random(n) * 4
    return (ms * 1e6).astype(np.int64)


def make_latency(samples: np.ndarray) -> Latency:
    half = len(samples) // 2
    return Latency(
        samples_ns=samples,
        batch=1,
        threads=1,
        affinity=(0, 1),
        warmup_calls=40,
        steady=True,
        clock="perf_counter_ns",
        overhead_ns=63.0,
        host=HOST,
        started="2026-11-20T10:11:12+00:00",
        bursts=(half, len(samples) - half),
    )


def make_summary(samples: np.ndarray) -> LatencySummary:
    ms = samples / 1e6
    median = float(np.median(ms))
    return LatencySummary(
        n=len(ms),
        median_ms=Interval(median, median * 0.985, median * 1.02),
        mean_ms=float(ms.mean()),
        min_ms=float(ms.min()),
        percentiles_ms={q: float(np.quantile(ms, float(q[1:]) / 100)) for q in ("p90", "p95", "p99")},
        refused={"p99.9": f"needs 2995 samples, there are {len(ms)}"},
        drift=-0.03,
        batch=1,
        threads=1,
        affinity=(0, 1),
        warmup_calls=40,
        steady=True,
        clock="perf_counter_ns",
        overhead_ns=63.0,
        host=HOST,
        started="2026-11-20T10:11:12+00:00",
    )


def make_accuracy(correct: int, *, float_correct: int = 1836, broke: int = 9, fixed: int = 4) -> Accuracy:
    n = 2000
    share = correct / n
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    return Accuracy(
        n=n,
        correct=correct,
        float_correct=float_correct,
        broke=broke,
        fixed=fixed,
        p_value=0.267,
        agreement=0.9905,
        sqnr_db=31.4,
        interval=Interval(share, share - half, share + half),
        source=DataSource("shipped fashion-mnist, test", "real", n, "ab" * 32, None),
        verdict=f"not worse: broke {broke}, fixed {fixed} of {n}, p 0.27",
    )


def make_history(precision: str) -> tuple[Step, ...]:
    shared = "the output is used twice, so the scale cannot move into it"
    kept = (
        *(Refusal(f"stage3.block{i}.mixer.conv", shared) for i in range(14)),
        Refusal("head.norm", "layer normalisation computes its statistics at run time"),
    )
    equal = (
        Parity("fold", "before", "after", 1, 3.1e-7, 4.2e-7, 128.4, "logits", True),
        Parity("fold", "before", "after", 3, 3.9e-7, 5.0e-7, 127.9, "logits", True),
    )
    steps = (
        Step(
            "reparameterize", "Folded 31 batch norms and 12 parallel branches.", 43, None, 0.41, kept, equal
        ),
        Step("to_onnx", "Exported at opset 20 with a free batch.", 0, 412, 6.2, (), equal),
        Step("rewrite: fold_identity", "Removed nodes that pass their input on.", 29, 383, 0.08, (), equal),
        Step("rewrite: merge_gelu", "Wrote the erf form as one Gelu.", 12, 335, 0.12, (), equal),
    )
    if precision != "int8":
        return steps
    detail = "Wrapped 88 operators in Q/DQ, per channel."
    bad = (Parity("int8", "float model", "int8 graph", 4, 0.81, math.inf, 28.9, "logits", True),)
    return (*steps, Step("quantize: int8", detail, 88, 611, 3.4, kept[:3], bad))


def make_report(**changes: Any) -> Report:
    """Make a whole report; every field can be replaced."""
    precision = changes.get("precision", "fp32")
    samples = changes.pop("samples", make_samples(1))
    calibrated = precision == "int8"
    values: dict[str, Any] = {
        "model": "smt_nano",
        "device": "cpu-ort",
        "device_title": "x86 CPU with ONNX Runtime",
        "runtime": "ort",
        "precision": precision,
        "command": f"fourfold export smt_nano --device cpu-ort --precision {precision}",
        "created": "2026-11-20T10:12:00+00:00",
        "tools": {"fourfold": "0.1.0", "onnxruntime": "1.30.0", "numpy": "2.3.5"},
        "facts": {
            "paper": "Scale-Aware Modulation Meet Transformer, arXiv:2307.08579",
            "licence": "Apache-2.0",
            "checked": "exact parameter count",
            "parameters": "312,458",
        },
        "inputs": (TensorSpec("image", ("batch", 1, 28, 28)),),
        "outputs": (TensorSpec("logits", ("batch", 10)),),
        "sizes": {"model.onnx": 1_310_720, "compiled/model.onnx": 1_402_113 if not calibrated else 402_113},
        "history": make_history(precision),
        "calibration": DataSource("shipped fashion-mnist, train", "real", 256, "cd" * 32, 0)
        if calibrated
        else None,
        "observer": "minmax" if calibrated else None,
        "parity": (
            Parity("fp32", "torch", "compiled", 1, 2.2e-6, 1.9e-6, 114.2, "logits", True),
            Parity("fp32", "torch", "compiled", 3, 2.8e-6, 2.1e-6, 113.0, "logits", True),
        ),
        "accuracy": make_accuracy(1831 if calibrated else 1836),
        "accuracy_note": "",
        "latency": make_summary(samples),
        "latency_note": "",
        "executed": (
            (
                Executed("CPUExecutionProvider", "int8", 88, 0.62),
                Executed("CPUExecutionProvider", "fp32", 54, 0.38),
            )
            if calibrated
            else (Executed("CPUExecutionProvider", "fp32", 214, 1.0),)
        ),
        "verdicts": (
            Verdict("parity", True, "equal within the table; lowest is 113.0 dB (fp32)"),
            Verdict("executed", True, "ran as asked: 100% fp32 of the nodes"),
            Verdict("accuracy", True, "not worse: broke 9, fixed 4 of 2000, p 0.27"),
        ),
    }
    return Report(**(values | changes))


def make_family() -> tuple[tuple[Report, ...], Mapping[str, np.ndarray]]:
    """Make nine bundles: fp32 and int8, a failed gate, no timing, no accuracy, odd names."""
    plan = [
        ("smt_nano", "cpu-ort", "fp32", 1.92, {}),
        ("smt_nano", "cpu-ort", "int8", 1.31, {}),
        ("smt_nano", "cpu-openvino", "fp32", 1.44, {}),
        ("smt_nano", "cpu-openvino", "int8", 0.88, {}),
        ("smt_tiny_with_a_name_that_goes_on_and_on", "an-equally-long-device-name", "fp32", 21.0, {}),
        ("<script>alert(1)</script>", "cpu-ort", "fp32", 2.1, {"accuracy": make_accuracy(1650, broke=190)}),
        ("smt_b", "iphone-ane", "fp32", None, {"latency": None, "latency_note": "iphone-ane is not here"}),
        (
            "own & \"quoted\" 'model'",
            "cpu-ort",
            "fp32",
            2.0,
            {"accuracy": None, "accuracy_note": "no labels"},
        ),
        (
            "smt_nano_b",
            "cpu-ort",
            "int8",
            1.30,
            {"calibration": DataSource("noise", "synthetic", 64, "e" * 64)},
        ),
    ]
    reports: list[Report] = []
    samples: dict[str, np.ndarray] = {}
    for seed, (model, device, precision, median, more) in enumerate(plan):
        drawn = make_samples(seed, median_ms=median or 1.0)
        report = make_report(model=model, device=device, precision=precision, samples=drawn, **more)
        reports.append(report)
        if report.latency is not None:
            samples[report.title] = drawn
    return tuple(reports), samples


@pytest.fixture
def report() -> MakeReport:
    return make_report


@pytest.fixture
def latency() -> Callable[[np.ndarray], Latency]:
    return make_latency


@pytest.fixture
def family() -> tuple[tuple[Report, ...], Mapping[str, np.ndarray]]:
    return make_family()
