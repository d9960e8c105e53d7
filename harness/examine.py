"""After compiling: is it right, how good is it, how fast is it, and what really ran?"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir

from ..calibration.samples import Samples
from ..export.artifact import Array, Exported, Feed, Golden, Precision, Run
from ..export.check import check
from ..export.parity import Parity, excess_loss, parity
from ..runtimes.device import Device
from ..runtimes.reference import evaluate
from ..runtimes.runtime import Executed
from .accuracy import accuracy_gate, logits_of, score
from .batches import in_batches
from .console import Narrator
from .golden import away_from_edges
from .latency import Call, Plan, measure_openings
from .materials import Materials
from .origin import Origin
from .result import Accuracy, Latency, Verdict
from .subject import Open, Subject

GOLDEN_SAMPLES = 4
SCORING_BATCH = 32


@dataclass(frozen=True)
class Budget:
    """How long to measure, and how much may be lost."""

    seconds: float = 4.0
    """Of timing, after the warm-up."""
    max_drop: float = 1.0
    """Accuracy in points that an artifact may lose, if the loss is significant at all."""


@dataclass(frozen=True)
class Findings:
    """What an opened artifact showed."""

    parity: tuple[Parity, ...]
    accuracy: Accuracy | None
    accuracy_note: str
    latency: Latency | None
    latency_note: str
    executed: tuple[Executed, ...]
    verdicts: tuple[Verdict, ...]


def examine(
    subject: Subject,
    exported: Exported,
    *,
    origin: Origin,
    materials: Materials,
    device: Device,
    budget: Budget,
    seed: int,
    narrator: Narrator,
) -> Findings:
    """Check, score and time one artifact.

    Args:
        subject: The artifact, as this machine can look at it.
        exported: The graph it was compiled from; its golden answers are the source model's.
        origin: The source model.
        materials: Samples to score on.
        device: The device asked for; only there is a latency measured.
        budget: How long to measure, and how much may be lost.
        seed: Of the fresh inputs.
        narrator: Is told of every stage.
    """
    with subject.open() as session:
        run = in_batches(session.run, exported.inputs, device)
        with narrator.stage(f"checking the {subject.name if not subject.ran else 'compiled network'}"):
            checked = _fresh(run, subject.name, exported, origin, seed) + against_golden(
                run, exported.model, exported.golden, exported.kind, name=subject.name
            )
        accuracy = None
        if materials.evaluation is not None:
            with narrator.stage(f"scoring {materials.evaluation.count} samples"):
                accuracy = _score(run, origin, materials.evaluation, exported)
        executed = session.executed()
    latency, latency_note = None, subject.not_timed
    if not latency_note:
        with narrator.stage("timing"):
            latency = time_openings(subject.open, exported.golden.inputs, device, seconds=budget.seconds)
    verdicts = (
        parity_verdict(checked),
        *([executed_verdict(executed, exported.precision)] if subject.ran else []),
        *([] if accuracy is None else [accuracy_gate(accuracy, max_drop=budget.max_drop)]),
    )
    return Findings(checked, accuracy, materials.note, latency, latency_note, executed, verdicts)


def golden_samples(exported: Exported, samples: Samples | None, reference: Run) -> Golden:
    """Replace random golden inputs by real samples, where there are some, with the source model's answers."""
    if samples is None:
        return exported.golden
    feed = next(iter(samples.batches(fixed_batch(exported) or GOLDEN_SAMPLES)))
    return Golden(inputs=feed, outputs=reference(feed))


def fixed_batch(exported: Exported) -> int | None:
    """Give the batch size that the graph insists on, or None when it is free."""
    size = exported.inputs[0].shape[0] if exported.inputs[0].shape else 1
    return size if isinstance(size, int) else None


def _fresh(run: Run, name: str, exported: Exported, origin: Origin, seed: int) -> tuple[Parity, ...]:
    """Compare with the source on inputs nobody has seen; what loses by design is compared on real samples."""
    if exported.kind not in ("fp32", "fp16"):
        return ()
    fixed = fixed_batch(exported)
    return check(
        exported.kind,
        origin.reference,
        run,
        exported.inputs,
        names=(origin.reference_name, name),
        batches=(fixed,) if fixed else (1, 3),
        seed=seed,
    )


def against_golden(
    run: Run, model: ir.Model, golden: Golden, kind: str, *, name: str = "compiled"
) -> tuple[Parity, ...]:
    """Compare an artifact with the golden answers; needs neither torch nor the source model.

    An int8 artifact is compared with its own graph in the reference evaluator (did the engine run what was
    written?) and with the float answers (is the quantization sound?). So is the graph: two right evaluations
    of one graph lose about as much to float, however their roundings differ. Samples on the edge of a
    decision are left out of a float comparison (see ``golden``).
    """
    answers = run(golden.inputs)
    batch = next(iter(golden.inputs.values())).shape[0]
    float_names = ("float model", name)
    if kind != "int8":
        found = parity(kind, golden.outputs, answers, names=float_names, batch=batch)
        return (found if found.ok else away_from_edges(found, evaluate(model), golden, answers),)
    written = evaluate(model)(golden.inputs)
    return (
        parity("int8-engine", written, answers, names=("int8 graph", name), batch=batch),
        parity("int8", golden.outputs, answers, names=float_names, batch=batch),
        parity("int8", golden.outputs, written, names=("float model", "int8 graph"), batch=batch),
    )


def _score(run: Run, origin: Origin, samples: Samples, exported: Exported) -> Accuracy:
    """Score the artifact beside the graph as first exported, which equals the source and is faster."""
    output, batch = exported.outputs[exported.answering].name, fixed_batch(exported) or SCORING_BATCH
    float_logits = logits_of(evaluate(origin.exported.model), samples, output=output, batch=batch)
    return score(run, samples, output=output, float_logits=float_logits, batch=batch)


def time_openings(open_session: Open, golden: Feed, device: Device, *, seconds: float) -> Latency:
    """Time single calls on one real sample, over several openings of the artifact."""
    feed = first_sample(golden)
    return measure_openings(
        lambda: calls(open_session, feed),
        plan=Plan(min_seconds=seconds),
        batch=next(iter(feed.values())).shape[0],
        threads=device.threads,
    )


@contextmanager
def calls(open_session: Open, feed: Feed) -> Generator[Call]:
    """Open an artifact and give its inference on one feed as a call that takes nothing."""
    with open_session() as session:
        yield lambda: session.run(feed)


def first_sample(feed: Feed) -> Mapping[str, Array]:
    """Cut a batch to its first sample."""
    return {name: array[:1] for name, array in feed.items()}


def parity_verdict(checked: tuple[Parity, ...]) -> Verdict:
    """Say whether every comparison was within its tolerance."""
    bad = [p for p in checked if not p.ok]
    if bad:
        p = bad[0]
        return Verdict(
            "parity",
            False,
            f"{p.candidate} differs from {p.reference} in {p.worst!r}: relative error {p.relative:.2g}, "
            f"{p.sqnr_db:.1f} dB ({p.kind}, batch {p.batch})",
        )
    losses = [p for p in checked if p.kind == "int8"]
    if len(losses) == 2 and excess_loss(graph := losses[1], engine := losses[0]) > 0:
        sentence = (
            f"the engine is {engine.sqnr_db:.1f} dB from float, its graph {graph.sqnr_db:.1f} dB: "
            "something else ran"
        )
        return Verdict("parity", False, sentence)
    worst = min(checked, key=lambda p: p.sqnr_db)
    return Verdict("parity", True, f"equal within the table; lowest is {worst.sqnr_db:.1f} dB ({worst.kind})")


def executed_verdict(executed: tuple[Executed, ...], precision: Precision) -> Verdict:
    """Compare what ran with what was asked."""
    shares: dict[str, float] = {}
    for part in executed:
        shares[part.precision] = shares.get(part.precision, 0.0) + part.share
    what = ", ".join(f"{share:.0%} {name}" for name, share in sorted(shares.items()))
    if strange := set(shares) - {"fp32", precision}:
        return Verdict("executed", False, f"asked for {precision}, but {min(strange)} ran as well: {what}")
    if precision not in shares:
        return Verdict("executed", False, f"asked for {precision}, but none of it ran: {what}")
    return Verdict("executed", True, f"ran as asked: {what} of the nodes")
