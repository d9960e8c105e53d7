"""``verify``: a bundle checks itself on the device, with no torch and no source model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ..export.artifact import Run
from ..export.parity import Parity
from ..runtimes.runtime import Executed, MakesApps
from .app_package import against_network
from .batches import in_batches
from .console import Narrator, Silent
from .examine import against_golden, executed_verdict, parity_verdict
from .ready import Ready, ready
from .result import Verdict


@dataclass(frozen=True)
class Verification:
    """What a bundle said about itself."""

    title: str
    parity: tuple[Parity, ...]
    executed: tuple[Executed, ...]
    verdicts: tuple[Verdict, ...]
    warning: str
    """What this check does not prove; empty on the device itself."""
    ran: bool
    """False when this machine could check the graph only, and not open the compiled file."""

    @property
    def ok(self) -> bool:
        """True when every gate said yes."""
        return all(v.ok for v in self.verdicts)


def verify(bundle: Path, *, narrator: Narrator | None = None) -> Verification:
    """Check every file's hash, run the golden inputs, and compare with the golden answers.

    Args:
        bundle: Folder of the bundle.
        narrator: Is told of every stage.

    Raises:
        UsageError: If the folder is not a whole, untouched bundle.
        UnavailableError: If the engine is not here.
        RunError: If the device fails.
    """
    say = narrator or Silent()
    made = ready(bundle, on_device=False)
    b, subject = made.bundle, made.subject()
    with say.stage(f"verifying {b.title}"), subject.open() as session:
        run = in_batches(session.run, b.manifest.inputs, b.device)
        checked = against_golden(run, ir.load(b.model), b.golden, b.kind, name=subject.name)
        executed = session.executed()
        asked = _app(made, run) if b.app and subject.ran else ()
    verdicts = (
        parity_verdict(checked),
        *([executed_verdict(executed, b.precision)] if subject.ran else []),
        *([replace(parity_verdict(asked), gate="app")] if asked else []),
    )
    return Verification(b.title, checked + asked, executed, verdicts, subject.warning, subject.ran)


def _app(made: Ready, run: Run) -> tuple[Parity, ...]:
    """Ask the package for an app about the golden inputs."""
    b, m = made.bundle, made.bundle.manifest
    if b.app is None or m.preprocess is None or not isinstance(made.runtime, MakesApps):
        return ()
    ask = made.runtime.open_app(b.app, b.device)
    return (against_network(ask, run, b.golden, m.inputs[0], b.precision, m.preprocess, m.labels),)
