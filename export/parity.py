"""Is this graph still the same network? The one place in the project that holds tolerances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import VerdictError, unknown_name
from ..models.spec import TensorSpec
from .artifact import Array, Feed


@dataclass(frozen=True)
class Tolerance:
    """Largest error that still counts as equal, and why it is that large.

    An infinite ``relative`` leaves the verdict to ``sqnr_db``; minus infinity decibel leaves it to the other.
    """

    relative: float
    """Of max |candidate - reference| / max |reference|."""
    sqnr_db: float
    """Lowest signal to noise ratio of the candidate against the reference, in decibel."""
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "fold": Tolerance(
        1e-5,
        -math.inf,
        "weights are folded in float64 and rounded once; only the order of float32 sums changes",
    ),
    "fp32": Tolerance(
        1e-4,
        -math.inf,
        "engines reorder sums, fuse multiply-adds, use Winograd and approximate erf and exp: seven networks "
        "of the zoo and of timm stayed below 3e-6 in ONNX Runtime and OpenVINO, trained weights may amplify "
        "more; a wrong operator is far above",
    ),
    "fp16": Tolerance(
        math.inf,
        40.0,
        "one rounding to 11 bits is 70 dB below its value; roundings of tens of layers add up, and engines "
        "round between operators at different places; a wrong operator or an overflow is far below 40 dB",
    ),
    "analog": Tolerance(
        math.inf,
        0.0,
        "the noise of light and cameras depends on the device, so this floor only catches answers with more "
        "noise than signal; the lowering itself is proven with ideal optics, accuracy decides the rest",
    ),
    "optics": Tolerance(
        1e-6,
        -math.inf,
        "a lowering to light, with ideal optics in float64, differs from the electronic node by nothing but "
        "the node's own float32 roundings",
    ),
    "optics-whole": Tolerance(
        1e-5,
        -math.inf,
        "the same through a whole network in float32, whose layers each add their roundings",
    ),
    "int8-engine": Tolerance(
        math.inf,
        10.0,
        "the same int8 graph, but a value at a rounding tie falls to either side in another engine and the "
        "flip travels on through every layer: right engines were seen 15 to 32 dB apart on random weights, "
        "about as far as the quantization noise itself; a wrong scale or zero point is near 0 dB",
    ),
    "int8-weights": Tolerance(
        math.inf,
        20.0,
        "a weight with one 8-bit scale per channel keeps 40 to 50 dB of itself and layers add their noise: "
        "small networks were seen at 30 to 58 dB; a scale in the wrong place is near 0 dB",
    ),
    "int4-weights": Tolerance(
        math.inf,
        3.0,
        "a weight in 4-bit blocks keeps 15 to 25 dB of itself and layers add their noise: small networks "
        "were seen at 5 dB on noise, at 9 to 33 on pictures, so this floor catches a broken compression "
        "only; accuracy on labelled data decides whether 4 bits are enough",
    ),
    "int8": Tolerance(
        math.inf,
        10.0,
        "quantization noise depends on the network, so this floor only catches a broken quantization; "
        "accuracy on labelled data decides whether int8 is good enough",
    ),
}

EXCESS_LOSS_DB = 6.0
"""How much farther from float an engine may bring an int8 graph than the graph is by itself. Roundings at
ties move the loss both ways by little; an engine that doubles the noise computes something else."""


@dataclass(frozen=True)
class Parity:
    """How far a candidate is from its reference on one input."""

    kind: str
    """Key of ``TOLERANCES``."""
    reference: str
    """For example ``"torch"``."""
    candidate: str
    """For example ``"openvino CPU"``."""
    batch: int
    max_abs: float
    relative: float
    sqnr_db: float
    worst: str
    """Name of the output that is farthest."""
    ok: bool
    why: str = ""
    """What is wrong when no number can say it, such as a missing output."""
    redrawn: int = 0
    """How many inputs were put aside before this one, being on the edge of a decision (see ``check``)."""


class _Gap(NamedTuple):
    """Distance of one output; ``why`` is set when the arrays could not be compared."""

    max_abs: float
    relative: float
    sqnr_db: float
    why: str = ""


def parity(kind: str, reference: Feed, candidate: Feed, *, names: tuple[str, str], batch: int) -> Parity:
    """Compare two answers to one question.

    Infinities and NaNs must stand at the same places; integers and booleans must be equal.

    Args:
        kind: Key of ``TOLERANCES``.
        reference: Outputs to be met.
        candidate: Outputs that were produced.
        names: What reference and candidate are called in reports.
        batch: Batch size of both.

    Returns:
        The errors and the verdict; a missing output, another shape or a non-finite value that the reference
        has not is a failed verdict.
    """
    tolerance = _tolerance(kind)
    gaps = {name: _gap(array, candidate.get(name)) for name, array in reference.items()}
    if not gaps:
        gaps = {"": _broken("the reference has no outputs")}
    worst = max(gaps, key=lambda name: (gaps[name].why != "", gaps[name].relative, -gaps[name].sqnr_db))
    sqnr = min(gap.sqnr_db for gap in gaps.values())
    relative = max(gap.relative for gap in gaps.values())
    why = gaps[worst].why
    ok = not why and relative <= tolerance.relative and sqnr >= tolerance.sqnr_db
    max_abs = max(gap.max_abs for gap in gaps.values())
    return Parity(kind, *names, batch, max_abs, relative, sqnr, worst, ok, why)


def excess_loss(graph: Parity, engine: Parity) -> float:
    """Give by how many decibel an engine loses more to float than allowed; 0 or less is right.

    Args:
        graph: The int8 graph as written against float.
        engine: The compiled int8 graph against float, on the same inputs.
    """
    if graph.sqnr_db == engine.sqnr_db:
        return -EXCESS_LOSS_DB
    return graph.sqnr_db - engine.sqnr_db - EXCESS_LOSS_DB


def fresh_inputs(specs: tuple[TensorSpec, ...], *, batch: int, seed: int, free: int = 32) -> Feed:
    """Draw inputs that no step has seen.

    Every input is drawn as by `draw_input`.

    Args:
        specs: Inputs to draw; a free dimension ``"batch"`` takes ``batch``, any other takes ``free``.
        batch: Batch size.
        seed: Of the generator; the same seed gives the same arrays.
        free: Size of every other free dimension.

    Returns:
        One array per input.
    """
    random = np.random.default_rng(seed)
    return {spec.name: draw_input(random, spec, _shape(spec, batch, free)) for spec in specs}


def draw_input(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """Draw one input.

    Floats are standard normal, integers 0 to below the specification's ``high``, and without it, like
    booleans, 0 or 1.

    Args:
        random: The generator to draw from.
        spec: The input.
        shape: Its shape, without free dimensions.
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iu":
        # Without a bound, small enough to index the smallest embedding table.
        return random.integers(0, spec.high or 2, shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def batch_sizes(specs: tuple[TensorSpec, ...], batches: tuple[int, ...]) -> tuple[int, ...]:
    """Give the batch sizes that a network takes: ``batches``, or the one it is fixed to."""
    if any("batch" in spec.shape for spec in specs):
        return batches
    leading = [spec.shape[0] for spec in specs if spec.shape]
    return (leading[0] if leading and isinstance(leading[0], int) else 1,)


def require(parities: tuple[Parity, ...], step: str) -> None:
    """Raise when a verdict is negative.

    Args:
        parities: What ``check`` found.
        step: Name of the step that made the candidate.

    Raises:
        VerdictError: Naming the step, the worst output, its error and the tolerance.
    """
    failed = [p for p in parities if not p.ok]
    if failed:
        raise VerdictError(explain(max(failed, key=lambda p: (p.why != "", p.relative)), step))


def explain(found: Parity, step: str) -> str:
    """Say in one sentence how a verdict came about."""
    limit = TOLERANCES[found.kind]
    head = f"step {step!r}: expected {found.candidate} to equal {found.reference} at batch {found.batch}"
    if found.why:
        return f"{head}, but output {found.worst!r} {found.why}; the step must not be used for this network"
    allowed = [f"relative error {limit.relative:g}"] if math.isfinite(limit.relative) else []
    allowed += [f"at least {limit.sqnr_db:g} dB"] if math.isfinite(limit.sqnr_db) else []
    return (
        f"{head} ({found.kind}: {', '.join(allowed)}), got relative error {found.relative:.2e} and "
        f"{found.sqnr_db:.1f} dB, worst at output {found.worst!r}; the step must not be used for this network"
    )


def _tolerance(kind: str) -> Tolerance:
    if kind not in TOLERANCES:
        what = "kind of tolerance"
        raise unknown_name(what, kind, TOLERANCES)
    return TOLERANCES[kind]


def _gap(reference: Array, candidate: Array | None) -> _Gap:
    if candidate is None:
        return _broken("is missing")
    if reference.shape != candidate.shape:
        return _broken(f"has shape {candidate.shape} instead of {reference.shape}")
    if reference.dtype.kind in "biu" or candidate.dtype.kind in "biu":
        return _exact_gap(reference, candidate)
    return _float_gap(reference.astype(np.float64), candidate.astype(np.float64))


def _exact_gap(reference: Array, candidate: Array) -> _Gap:
    differ = int(np.count_nonzero(reference != candidate))
    if differ:
        return _broken(
            f"differs in {differ} of {reference.size} {reference.dtype} values, which must be equal"
        )
    return _Gap(0.0, 0.0, math.inf)


def _float_gap(reference: Array, candidate: Array) -> _Gap:
    finite = np.isfinite(reference)
    if not np.array_equal(reference[~finite], candidate[~finite], equal_nan=True):
        return _broken("is finite where the reference is not, or the other way round")
    if not np.isfinite(candidate[finite]).all():
        return _broken("has NaN or infinite values where the reference has none")
    if reference.size and not finite.any():
        return _broken("has no finite value, so that nothing can be compared")
    return _finite_gap(reference[finite], candidate[finite])


def _finite_gap(reference: Array, candidate: Array) -> _Gap:
    if not reference.size:
        return _Gap(0.0, 0.0, math.inf)
    error = np.abs(candidate - reference)
    peak = float(np.abs(reference).max())
    # A reference of zeros has no scale of its own: errors against it are taken as they are.
    scale = peak if peak > 0 else 1.0
    max_abs = float(error.max())
    noise = float(np.mean((error / scale) ** 2))
    signal = float(np.mean((reference / scale) ** 2)) if peak > 0 else 1.0
    sqnr = 10 * (math.log10(signal) - math.log10(noise)) if noise > 0 else math.inf
    return _Gap(max_abs, max_abs / scale, sqnr)


def _broken(why: str) -> _Gap:
    return _Gap(math.inf, math.inf, -math.inf, why)


def _shape(spec: TensorSpec, batch: int, free: int) -> tuple[int, ...]:
    sizes: Mapping[str, int] = {d: batch if d == "batch" else free for d in spec.shape if isinstance(d, str)}
    return spec.concrete(**sizes)
