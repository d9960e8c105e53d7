"""Frames of the networks that FatNet is about, by every pure scheme and by the mixed scheduler.

    python benchmarks/optical_frames.py --out benchmarks/optical_frames

A plane of 1920 x 1080 pixels, pseudo-negative pairs of frames, 23,148 frames a second (a mirror device that
is loaded whole). Everything is counted, nothing is timed: the same numbers on every machine. ``lit`` is the
mixed schedule within the light of a 500 mW laser, ``dim`` within a thousandth of it; the pure schemes are
counted whatever light they leave. ``kernel, full pitch`` is the arithmetic of tiles that share no gap (pitch
n + k - 1) and of batches that are split over frames, for comparison with what others count.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fourfold.models.fatnet import EvenConv
from fourfold.models.registry import get_spec
from fourfold.runtimes.optical4f.claims import mirror_rate
from fourfold.runtimes.optical4f.lower import lower_conv
from fourfold.runtimes.optical4f.presets import System, get_system
from fourfold.runtimes.optical4f.schedule import Work, plan, pure_passes

NETWORKS = ("fatnet_resnet_cifar100", "fatnet_cifar100", "fatnet_nano", "convshare_vit_nano")
BATCHES = (1, 64, 3136)
HEIGHT, WIDTH, FRAMES_PER_PASS = 1080, 1920, 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="writes OUT.json and OUT.md")
    out: Path = parser.parse_args().out
    system = get_system("lcos-pn")
    dim = replace(system, laser=replace(system.laser, power_mw=system.laser.power_mw / 1000))
    rows = [row(name, batch, system, dim) for name in NETWORKS for batch in BATCHES]
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    out.with_suffix(".md").write_text(page(rows))
    print(page(rows))


def row(name: str, batch: int, system: System, dim: System) -> dict[str, Any]:
    """Count one network."""
    works = convolutions(name, batch)
    pure = [pure_passes(work, HEIGHT, WIDTH) for work in works]
    frames = {kind: FRAMES_PER_PASS * sum(p[kind] for p in pure) for kind in ("input", "kernel", "channel")}
    frames["kernel, full pitch"] = FRAMES_PER_PASS * sum(full_pitch(work) for work in works)
    frames["best of them per layer"] = FRAMES_PER_PASS * sum(min(p.values()) for p in pure)
    for label, hardware in (("lit", system), ("dim", dim)):
        frames[label] = sum(plan(w, hardware, frames_per_pass=FRAMES_PER_PASS).frames for w in works)
    rate = mirror_rate()[1]
    return {
        "network": name,
        "batch": batch,
        "pairs of channels": sum(w.groups * w.channels * w.kernels for w in works),
        **frames,
        "samples a second, kernel": batch * rate / frames["kernel"],
        "samples a second, full pitch": batch * rate / frames["kernel, full pitch"],
        "samples a second, lit": batch * rate / frames["lit"],
    }


def full_pitch(work: Work) -> int:
    """Count the passes of kernel tiling on tiles that share nothing, packed by area."""
    tiles = 1
    for axis, plane in ((work.rows, HEIGHT), (work.columns, WIDTH)):
        tiles *= plane // (axis.n + axis.k - 1)
    return work.groups * work.channels * -(-work.kernels * work.pictures // tiles)


def convolutions(name: str, batch: int) -> list[Work]:
    """Find the convolutions of a network that has kernels of more than one pixel, by running it once."""
    spec = get_spec(name)
    module: nn.Module = spec.build().eval()
    found: list[Work] = []

    def seen(conv: nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        if max(conv.kernel_size) == 1:
            return
        layer, _kernels = lower_conv(
            f"conv{len(found)}",
            conv.weight.detach().numpy(),
            groups=conv.groups,
            strides=conv.stride,
            dilations=conv.dilation,
            pads=padding(conv),
        )
        pictures, _, height, width = inputs[0].shape
        found.append(Work.of(layer, pictures * batch, height, width))

    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(seen)
    with torch.no_grad():
        module(torch.zeros(spec.inputs[0].concrete(batch=1)))
    return found


def padding(conv: nn.Conv2d) -> tuple[int, ...]:
    """Give top, left, bottom, right."""
    if isinstance(conv, EvenConv):
        left, right, top, bottom = conv.reach
        return top, left, bottom, right
    if isinstance(conv.padding, str):
        total = [
            d * (k - 1) * (conv.padding == "same")
            for k, d in zip(conv.kernel_size, conv.dilation, strict=True)
        ]
        return (*(t // 2 for t in total), *(t - t // 2 for t in total))
    return (*conv.padding, *conv.padding)


def page(rows: list[dict[str, Any]]) -> str:
    """Write the rows as a table."""
    names = list(rows[0])
    lines = ["# Frames on one plane", "", *(__doc__ or "").strip().splitlines()[2:], ""]
    lines += ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_cell(r[n]) for n in names) + " |" for r in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
