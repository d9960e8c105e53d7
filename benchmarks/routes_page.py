"""The Markdown page of ``routes.py``, made from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SHOWN = 10
"""Operators listed per engine; the rest is one line."""


def page(results: dict[str, Any]) -> str:
    """Write the page: how it was measured, then one section per model."""
    machine, versions = results["host"], results["tools"]
    flags = ", ".join(f for f in machine["flags"] if f.startswith(("avx", "amx", "neon", "asimd")))
    lines = [
        "# Routes from one torch module to an inference",
        "",
        "Written by `benchmarks/routes.py`; every figure is in `routes.json` with its raw rounds.",
        "",
        f"* Machine: {machine['processor']}, {machine['cores']} cores, {flags}",
        f"* {results['threads']} thread, batch {results['batch']}, interleaved rounds",
        f"* Versions: {', '.join(f'{k} {v}' for k, v in versions.items())}",
        "* *cpu*: processor time of one inference, on one thread the latency where nobody else uses the "
        "processor; *wall*: what the clock on the wall said, neighbours included",
        "* *speed*: times as fast as the best float route of another tool, in processor time paired within "
        "rounds, with its 95 % interval; above 1 is faster",
        "* *SQNR*: of the answer against the module in torch, on the timed input",
        "* Other tools get SMT as its public code lays it out (`smt_tokens.py`): they serve that form better "
        "than the zoo's",
    ]
    for model in results["models"]:
        lines += ["", *_section(model)]
    return "\n".join(lines) + "\n"


def _section(model: dict[str, Any]) -> Iterator[str]:
    yield f"## {model['model']}, {' x '.join(map(str, model['input'][1:]))}"
    yield ""
    yield (
        f"Best float route of another tool: {model['best_float']}. Calibration: {model['calibration']}. "
        f"{model['rounds']} rounds, {model['started']}, load of the machine {model['load']:.1f}."
    )
    yield ""
    yield "| route | precision | cpu median ms | quartiles | min | wall median | min | speed | SQNR dB |"
    yield f"| --- | --- |{' ---: |' * 7}"
    for row in model["routes"]:
        speed, name = row["times_as_fast_as_best_float"], row["route"]
        low, high = row["cpu_quartiles_ms"]
        sqnr = "equal" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        yield (
            f"| {f'**{name}**' if row['ours'] else name} | {row['precision']} | {row['cpu_median_ms']:.2f} "
            f"| {low:.2f} to {high:.2f} | {row['cpu_min_ms']:.2f} "
            f"| {row['wall_median_ms']:.2f} | {row['wall_min_ms']:.2f} "
            f"| {speed['value']:.2f} ({speed['low']:.2f} to {speed['high']:.2f}) | {sqnr} |"
        )
    yield ""
    yield "Where the time goes, in float (each node's fastest run, ms):"
    yield ""
    yield from _operators(model["operators_ms"])


def _operators(profiles: dict[str, dict[str, float]]) -> Iterator[str]:
    yield f"| {' | '.join(profiles)} |"
    yield f"|{' --- |' * len(profiles)}"
    columns = [_column(profile) for profile in profiles.values()]
    for i in range(max(map(len, columns))):
        yield f"| {' | '.join(column[i] if i < len(column) else '' for column in columns)} |"


def _column(profile: dict[str, float]) -> list[str]:
    entries = list(profile.items())
    rest = sum(milliseconds for _, milliseconds in entries[SHOWN:])
    shown = [f"{name} {milliseconds:.2f}" for name, milliseconds in entries[:SHOWN]]
    return [f"**all {sum(profile.values()):.2f}**", *shown, *([f"others {rest:.2f}"] if rest else [])]
