"""``verify`` of a Core ML package that anybody made: what it holds, whether it evaluates, what it answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..export.artifact import Array, Feed
from ..export.parity import Parity, parity
from ..models.spec import TensorSpec
from ..runtimes.coreml.mil.interface import Feature
from ..runtimes.coreml.mil.program import Program, load_program
from .console import Narrator, Silent
from .examine import parity_verdict
from .golden_file import read_golden
from .result import Verdict

WARNING = "checks conversion and compression, not Apple's kernels"
"""What holds for everything that the reference evaluator says."""
_COMPRESSED = "constexpr_"


@dataclass(frozen=True)
class TracedTensor:
    """One traced tensor in numbers."""

    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    not_finite: int
    """How many values are infinite or not a number."""


@dataclass(frozen=True)
class PackageCheck:
    """What a package said about itself."""

    title: str
    bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[str, ...]
    operators: Mapping[str, int]
    """How many there are by kind, most frequent first."""
    precisions: Mapping[str, int]
    """How many operators give each type of result."""
    unknown: Mapping[str, str]
    """Kinds that cannot be evaluated, each with the name of the first operator."""
    parity: tuple[Parity, ...]
    traced: tuple[TracedTensor, ...]
    verdicts: tuple[Verdict, ...]
    warning: str = WARNING

    @property
    def ok(self) -> bool:
        """True when every gate said yes."""
        return all(v.ok for v in self.verdicts)


def verify_package(
    path: Path,
    *,
    golden: Path | None = None,
    trace: Collection[str] = (),
    save_trace: Path | None = None,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> PackageCheck:
    """Evaluate a package operator by operator, and compare with golden answers where there are some.

    Args:
        path: The package.
        golden: Inputs and answers; without them it is evaluated on fresh inputs, with and without fp16.
        trace: Names of tensors to tell about.
        save_trace: Where to write the traced tensors, as npz.
        seed: Of fresh inputs.
        narrator: Is told of every stage.

    Raises:
        UsageError: If there is no such package, tensor or golden answer.
        BuildError: If the package is damaged, or an operator fails.
        UnavailableError: If coremltools is not installed.
    """
    say = narrator or Silent()
    if save_trace is not None:
        _check_writable(save_trace, trace)
    with say.stage(f"reading {path.name}"):
        program = load_program(path)
    if program.unknown:
        listed = ", ".join(f"{kind} (first at {name!r})" for kind, name in sorted(program.unknown.items()))
        sentence = f"operators that are not known here: {listed}"
        return _check(path, program, (), {}, Verdict("operators", False, sentence))
    with say.stage(f"evaluating {sum(program.counts.values())} operators"):
        compared, traced, verdict = _evaluate(program, golden, trace, seed)
    if save_trace is not None:
        with save_trace.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **traced)
    return _check(path, program, compared, traced, verdict)


def _check_writable(path: Path, trace: Collection[str]) -> None:
    if not trace:
        raise UsageError(f"expected --trace NAME for {path.name}, got none; name a tensor")
    if path.exists() or not path.parent.is_dir():
        what = "which exists" if path.exists() else "whose folder does not exist"
        raise UsageError(f"expected a new file for the traced tensors, got {path}, {what}; name another")


def _evaluate(
    program: Program, golden: Path | None, trace: Collection[str], seed: int
) -> tuple[tuple[Parity, ...], dict[str, Array], Verdict]:
    if golden is None:
        feed = fresh_inputs(program, seed)
        answers = program.run(feed, trace=trace)
        compared = _cost_of_half(program, feed, answers) if "fp16" in _precisions(program) else ()
        return compared, {name: answers[name] for name in trace}, _evaluated(program, answers, compared)
    outputs = [spec.name for spec in program.outputs]
    wanted = read_golden(golden, [spec.name for spec in program.inputs], outputs)
    answers = program.run(wanted.inputs, trace=trace)
    pairs = {name: _comparable(array, answers[name]) for name, array in wanted.outputs.items()}
    reference = {name: pair[0] for name, pair in pairs.items()}
    candidate = {name: pair[1] for name, pair in pairs.items()}
    names = ("golden", "package")
    compared = (parity(kind_of(program), reference, candidate, names=names, batch=_batch(wanted.inputs)),)
    return compared, {name: answers[name] for name in trace}, parity_verdict(compared)


def kind_of(program: Program) -> str:
    """Give the kind of parity that a package's precision allows: compressed weights are measured as int8."""
    kinds = {kind for kind, _ in program.counts}
    if "quantize" in kinds or any(k.startswith(_COMPRESSED) and k != "constexpr_cast" for k in kinds):
        return "int8"
    return "fp16" if "fp16" in _precisions(program) else "fp32"


def fresh_inputs(program: Program, seed: int) -> dict[str, Array]:
    """Draw inputs of the smallest shapes allowed: normal floats, pixels, and integers 0 or 1."""
    rng = np.random.default_rng(seed)
    return {f.spec.name: _drawn(rng, f) for f in program.interface.inputs}


def _drawn(rng: np.random.Generator, feature: Feature) -> Array:
    least = [low for low, _ in feature.bounds] or [1] * len(feature.spec.shape)
    sizes = [
        max(1, low) if isinstance(d, str) else d for d, low in zip(feature.spec.shape, least, strict=True)
    ]
    shape = feature.shapes[0] if feature.shapes else tuple(sizes)
    if feature.spec.dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if feature.spec.dtype.startswith("int"):
        return rng.integers(0, 2, shape).astype(feature.spec.dtype)
    return rng.normal(size=shape).astype(feature.spec.dtype)


def _cost_of_half(program: Program, feed: Feed, answers: Feed) -> tuple[Parity, ...]:
    exact = program.run(feed, rounding="fp32")
    floats = [s.name for s in program.outputs if answers[s.name].dtype.kind == "f"]
    if not floats:
        return ()
    pair = ({name: exact[name] for name in floats}, {name: answers[name] for name in floats})
    return (parity("fp16", *pair, names=("without rounding", "as written"), batch=_batch(feed)),)


def _evaluated(program: Program, answers: Feed, compared: tuple[Parity, ...]) -> Verdict:
    broken = [
        s.name
        for s in program.outputs
        if answers[s.name].dtype.kind == "f" and not np.isfinite(answers[s.name]).all()
    ]
    if broken:
        sentence = f"the output {broken[0]!r} has infinite values or NaN on fresh inputs"
        return Verdict("evaluation", False, sentence)
    cost = f"; rounding to fp16 leaves {compared[0].sqnr_db:.1f} dB" if compared else ""
    return Verdict("evaluation", True, f"every operator evaluates on fresh inputs{cost}")


def _check(
    path: Path, program: Program, compared: tuple[Parity, ...], traced: Mapping[str, Array], verdict: Verdict
) -> PackageCheck:
    kinds: Counter[str] = Counter()
    for (kind, _), count in program.counts.items():
        kinds[kind] += count
    return PackageCheck(
        path.name,
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) or path.stat().st_size,
        program.inputs,
        program.outputs,
        program.interface.states,
        dict(kinds.most_common()),
        _precisions(program),
        program.unknown,
        compared,
        tuple(_summary(name, array) for name, array in traced.items()),
        (verdict,),
    )


def _precisions(program: Program) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (_, dtype), count in program.counts.items():
        counts[dtype.replace("float", "fp")] += count
    return dict(counts.most_common())


def _summary(name: str, array: Array) -> TracedTensor:
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high, mean = (
        (float(finite.min()), float(finite.max()), float(finite.mean())) if finite.size else (math.nan,) * 3
    )
    return TracedTensor(name, tuple(array.shape), low, high, mean, int(values.size - finite.size))


def _comparable(golden: Array, answer: Array) -> tuple[Array, Array]:
    """Give both in one shape (Core ML gives a single value as a list of one), and labels as equal or not."""
    if golden.size == answer.size == 1:
        golden = golden.reshape(answer.shape)
    if golden.dtype.kind not in "US":
        return golden, answer
    other = golden.astype(str) != answer.astype(str)
    return np.zeros(golden.shape, np.int8), np.asarray(other, np.int8).reshape(golden.shape)


def _batch(feed: Feed) -> int:
    first = next(iter(feed.values()), np.zeros(1))
    return first.shape[0] if first.ndim else 1
