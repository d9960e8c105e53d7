"""``bench``: time bundles on the device they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .console import Narrator, Silent
from .examine import time_openings
from .latency import summarise
from .ready import ready
from .result import LatencySummary
from .write_bundle import save_latency


@dataclass(frozen=True)
class Timed:
    """One bundle's fresh measurement."""

    title: str
    latency: LatencySummary


def bench(
    bundles: Sequence[Path],
    *,
    seconds: float = 4.0,
    save: bool = False,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> tuple[Timed, ...]:
    """Time each bundle by itself; use `compare` to rank them, since only interleaved runs are comparable.

    Args:
        bundles: Folders of bundles.
        seconds: Least duration of each timing.
        save: Write the measurement into the bundle and its report; how a bundle that was made elsewhere
            gets its latency on the device.
        seed: Of the bootstrap.
        narrator: Is told of every stage.

    Raises:
        UsageError: If a folder is not a whole, untouched bundle.
        UnavailableError: If this is not the device.
        RunError: If the device fails.
    """
    say = narrator or Silent()
    done: list[Timed] = []
    for path in bundles:
        made = ready(path, on_device=True)
        bundle = made.bundle
        with say.stage(f"timing {bundle.title}"):
            latency = time_openings(made.open, bundle.golden.inputs, bundle.device, seconds=seconds)
        done.append(Timed(bundle.title, summarise(latency, seed=seed)))
        if save:
            save_latency(bundle, latency, seed=seed)
    return tuple(done)
