"""The answer of a verb: text for a person, one JSON document for a program, and the exit code."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnavailableError, VerdictError
from .document import encode
from .result import APP_PACKAGE, SMALLER_WEIGHTS

if TYPE_CHECKING:
    from ..models.spec import TensorSpec
    from .bench import Timed
    from .bundle import Bundle
    from .listing import Diagnosis
    from .paired import Comparison
    from .result import LatencySummary, Verdict
    from .verify import Verification
    from .verify_package import PackageCheck


UNFOLDED = 1000
"""Width, in characters, that no row of ours reaches."""


@dataclass(frozen=True)
class Answer:
    """What a verb hands back to the command line."""

    text: str
    document: Any
    """Made of dicts, lists, strings, numbers, booleans and None."""
    exit_code: int = 0

    def json(self) -> str:
        """Give the one document that ``--json`` prints."""
        return json.dumps(self.document, indent=2, allow_nan=False)


def table(rows: Sequence[Mapping[str, str]]) -> Answer:
    """Answer with rows of the same columns."""
    return Answer(columns(rows), [dict(row) for row in rows])


def doctor(diagnosis: Diagnosis) -> Answer:
    """Answer with what decides what works here."""
    host = diagnosis.host
    flags = " ".join(host.flags) or "no flags known"
    head = f"{host.processor}, {host.cores} cores, {host.arch}, {host.os}; {flags}"
    built = {name: c for name, c in diagnosis.engines.items() if not isinstance(c, str)}
    engines = [
        {
            "engine": name,
            "opset": f"{c.opset} of {c.opsets[0]}-{c.opsets[1]}",
            "precisions": " ".join(c.precisions),
            "small weights": " ".join(c.compressions) or "none",
            "Q/DQ": c.qdq.name if c.qdq else "none",
            **{f"{op}": how for op, how in c.control_flow.items()},
            "Attention": c.attention,
            "DFT": c.fft,
            "dynamic": c.dynamic_shapes,
        }
        for name, c in built.items()
    ]
    notes = [f"{name}: {what}: {why}" for name, c in built.items() for what, why in c.notes.items()]
    notes += [why for why in diagnosis.engines.values() if isinstance(why, str)]
    libraries = columns([{"library": k, "version": v} for k, v in diagnosis.libraries.items()])
    parts = (head, libraries, columns(engines), "\n".join(notes), columns(diagnosis.devices))
    return Answer("\n\n".join(part for part in parts if part), encode(diagnosis))


def bundle(made: Bundle) -> Answer:
    """Answer with what an export left; a gate that said no is exit code 1."""
    report = made.report
    lines = [*(f"warning: {w}" for w in report.warnings), *_verdicts(report.verdicts)]
    lines += [f"weights: {step.detail}" for step in report.history if step.name == SMALLER_WEIGHTS]
    lines += [f"app: {step.detail}" for step in report.history if step.name == APP_PACKAGE]
    lines.append(_latency_line(report.latency) if report.latency else f"latency: {report.latency_note}")
    lines.append(f"bundle: {made.folder}")
    document = {"bundle": str(made.folder), "ok": report.ok, "report": encode(report)}
    return Answer("\n".join(lines), document, _gate(report.ok))


def verification(found: Verification) -> Answer:
    """Answer with what a bundle said about itself."""
    lines = [f"{found.title}", *_verdicts(found.verdicts)]
    if found.warning:
        lines.append(f"warning: {found.warning}")
    code = _gate(found.ok) if found.ran or not found.ok else UnavailableError.exit_code
    return Answer("\n".join(lines), {"ok": found.ok, "verification": encode(found)}, code)


def package(found: PackageCheck) -> Answer:
    """Answer with what a Core ML package holds, and what it said about itself."""
    kinds = list(found.operators.items())
    more = f", and {len(kinds) - 12} kinds more" if len(kinds) > 12 else ""
    lines = [f"{found.title}: {found.bytes / 1e6:.3g} MB, {sum(found.operators.values())} operators"]
    lines += [f"  input {_spec(spec)}" for spec in found.inputs]
    lines += [f"  output {_spec(spec)}" for spec in found.outputs]
    lines += [f"  state {name}" for name in found.states]
    lines.append("  operators: " + ", ".join(f"{n} {kind}" for kind, n in kinds[:12]) + more)
    lines.append("  results: " + ", ".join(f"{n} {kind}" for kind, n in found.precisions.items()))
    for t in found.traced:
        shape = " x ".join(map(str, t.shape)) or "one value"
        broken = f", {t.not_finite} not finite" if t.not_finite else ""
        lines.append(f"  tensor {t.name}: {shape}, {t.low:.4g} to {t.high:.4g}, mean {t.mean:.4g}{broken}")
    lines += [*_verdicts(found.verdicts), f"warning: {found.warning}"]
    return Answer("\n".join(lines), {"ok": found.ok, "package": encode(found)}, _gate(found.ok))


def timings(timed: Iterable[Timed]) -> Answer:
    """Answer with one line per bundle."""
    taken = tuple(timed)
    return Answer("\n".join(f"{t.title}: {_latency_line(t.latency)}" for t in taken), encode(taken))


def comparisons(found: Iterable[Comparison]) -> Answer:
    """Answer with one verdict per pair."""
    pairs = tuple(found)
    return Answer("\n".join(p.sentence for p in pairs), [p.summary() for p in pairs])


def written(path: Path) -> Answer:
    """Answer with the file that was written."""
    return Answer(f"report: {path}", {"report": str(path)})


def _spec(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype} ({', '.join(map(str, spec.shape))})"


def _gate(ok: bool) -> int:
    return 0 if ok else VerdictError.exit_code


def _verdicts(verdicts: Iterable[Verdict]) -> list[str]:
    return [f"{v.gate}: {'ok' if v.ok else 'FAILED'}: {v.sentence}" for v in verdicts]


def _latency_line(latency: LatencySummary) -> str:
    m = latency.median_ms
    tails = ", ".join(f"{name} {value:.3g}" for name, value in latency.percentiles_ms.items())
    return (
        f"latency (measured): median {m.value:.3g} ms [{m.low:.3g}, {m.high:.3g}], "
        f"{tails + ', ' if tails else ''}n {latency.n}, {latency.threads} thread"
        + ("s" if latency.threads != 1 else "")
        + ("" if latency.steady else "; not steady after warm-up")
    )


def columns(rows: Sequence[Mapping[str, str]]) -> str:
    """Lay rows out under the names of their columns."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return ""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*row.values())
    buffer = StringIO()
    # A file or a pipe gets one line per row; only a terminal has an edge to fold at.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNFOLDED
    Console(file=buffer, width=width, no_color=True).print(grid)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip("\n").split("\n"))
