"""Write the page of `optical_accuracy.py` from its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Result = dict[str, Any]
HERE = Path(__file__).parent


def page(results: dict[str, Result]) -> str:
    """Write the results as Markdown."""
    lines = [
        "# Accuracy on the simulated optical processor",
        "",
        "Simulated; no light was involved. Written by `benchmarks/optical_accuracy_page.py` from the",
        "`optical_accuracy.json` of `optical_accuracy.py`; device `optical-4f`, set up for every row on",
        "training images. Accuracy is the mean over seeds of the noise, with the 95 % Wilson interval of one",
        "seed's images. What tuning brings back is in [optical_tuning.md](optical_tuning.md).",
    ]
    for name, result in results.items():
        lines += ["", f"## {name}", "", *network_lines(result)]
    return "\n".join(lines) + "\n"


def network_lines(result: Result) -> list[str]:
    """Write one network."""
    whole, settings = result["sweep"], result["settings"]
    seeds = f"{settings['seeds']} seed" + ("" if settings["seeds"] == 1 else "s")
    lines = [
        f"Float: {100 * whole['float_share']['value']:.1f} % ({whole['samples']}); {seeds}; "
        f"set up on {whole['set_up_on']}.",
        "",
        "| varied | accuracy (simulated) | 95 % interval | against float, first seed |",
        "| --- | ---: | --- | --- |",
    ]
    for point in whole["points"]:
        share = point["share"]
        lines.append(
            f"| {point['title']} | {100 * share['value']:.1f} % | {100 * share['low']:.1f} to "
            f"{100 * share['high']:.1f} | {point['paired']['verdict']} |"
        )
    causes = list(whole["budget"][0]["errors"]) if whole["budget"] else []
    lines += ["", "Error budget of the device as it is (relative error of each layer, ideal inputs):", ""]
    lines += ["| layer | " + " | ".join(causes) + " |", "| --- |" + " ---: |" * len(causes)]
    for layer in whole["budget"]:
        cells = " | ".join(f"{100 * layer['errors'].get(cause, 0.0):.2f} %" for cause in causes)
        lines.append(f"| {layer['layer']} | {cells} |")
    return lines


if __name__ == "__main__":
    (HERE / "optical_accuracy.md").write_text(page(json.loads((HERE / "optical_accuracy.json").read_text())))
