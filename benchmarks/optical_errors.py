"""What each non-ideality of the optical processor costs, in relative L2 error of one correlation.

    python benchmarks/optical_errors.py -o benchmarks/optical_errors.md

Three images of 256 x 256 (white noise; its 16th power, mostly dark; 1/f noise) and kernels of 7 x 7, one
of both signs and one of none. No training, no calibration but the electronic gain. Every figure comes
from the seeds in this file.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from fourfold.harness.host import tools
from fourfold.runtimes.optical4f.conditions import IDEAL, Conditions
from fourfold.runtimes.optical4f.detection import SCHEMES
from fourfold.runtimes.optical4f.encoding import ENCODINGS
from fourfold.runtimes.optical4f.plane import Window
from fourfold.runtimes.optical4f.simulate import simulate_pass

BITS = (4, 6, 8, 10, 12)
SIZE, EXTENT = 256, 7


@dataclass(frozen=True)
class Table:
    """Errors of one kind."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images() -> dict[str, Tensor]:
    white = torch.rand(SIZE, SIZE, generator=seeded(0), dtype=torch.float64)
    rate = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    slope = torch.hypot(rate[:, None], rate).clamp(min=1 / SIZE)
    pink = torch.fft.ifft2(torch.fft.fft2(white - 0.5) / slope).real
    pink = (pink - pink.min()) / (pink.max() - pink.min())
    return {"white": white, "dark": white**16, "1/f": pink}


SIGNED = torch.randn(EXTENT, EXTENT, generator=seeded(21), dtype=torch.float64)
KERNELS = {"signed": SIGNED, "positive": SIGNED.abs()}


def error(image: Tensor, kernel: Tensor, conditions: Conditions, **given: Any) -> str:
    """Compare a pass with the correlation; noise has a seed of its own."""
    wanted = conv2d(image[None, None], kernel[None, None], padding=EXTENT // 2)[0, 0]
    answer = simulate_pass(
        image,
        kernel,
        conditions=conditions,
        window=Window((EXTENT // 2,) * 4),
        generator=seeded(1),
        **given,
    ).answer
    return f"{float((answer - wanted).norm() / wanted.norm()):.2g}"


def schemes() -> list[Table]:
    """Detection schemes against bits of the camera, and against full wells."""
    wells = {
        "full well 1e4, read 5": Conditions(full_well=1e4, read_noise=5.0),
        "full well 3e4, 10 bits": Conditions(full_well=3e4, adc_bits=10),
    }
    settings = {f"{bits} bits": Conditions(adc_bits=bits) for bits in BITS} | wells
    return [
        Table(
            f"Detection scheme, {name} image, kernel of both signs",
            ("scheme", *settings),
            tuple(
                (scheme, *(error(image, SIGNED, c, scheme=scheme) for c in settings.values()))
                for scheme in SCHEMES
            ),
        )
        for name, image in images().items()
    ]


def encodings() -> list[Table]:
    """What masks can show, by balanced homodyne and by pseudo-negative detection."""
    cases = [(name, kernel) for name in images() for kernel in KERNELS]
    rows = [
        (
            f"{encoding}, {scheme}",
            *(error(images()[i], KERNELS[k], IDEAL, encoding=encoding, scheme=scheme) for i, k in cases),
        )
        for encoding in ENCODINGS
        for scheme in ("homodyne", "pseudo-negative")
    ]
    return [Table("Encoding of the mask", ("encoding", *(f"{i}, {k}" for i, k in cases)), tuple(rows))]


def others() -> list[Table]:
    """One non-ideality at a time, under balanced homodyne without noise."""
    ladders: dict[str, tuple[Any, ...]] = {
        "mask_bits": (2, 4, 6, 8, 10),
        "input_bits": (1, 2, 4, 6, 8),
        "mask_shift": ((0.0, 0.5), (0.0, 1.0), (0.0, 2.0)),
        "camera_shift": ((0.0, 0.1), (0.0, 0.25)),
        "defocus": (0.05, 0.1, 0.25),
        "input_fill": (0.5, 0.96, 1.0),
        "phase_drift": (0.05, 0.2),
    }
    cases = [(name, kernel) for name in images() for kernel in KERNELS]
    rows: list[tuple[str, ...]] = []
    for field, values in ladders.items():
        for value in values:
            conditions = Conditions(**{field: value})
            rows.append((f"{field} {value}", *(error(images()[i], KERNELS[k], conditions) for i, k in cases)))
    for contrast in (1000.0, 200.0, 50.0):
        conditions = Conditions(contrast=contrast, contrast_known=False)
        row = (error(images()[i], KERNELS[k], conditions) for i, k in cases)
        rows.append((f"contrast {contrast:.0f}, floor not taken off", *row))
    return [Table("One at a time, homodyne", ("condition", *(f"{i}, {k}" for i, k in cases)), tuple(rows))]


def page(tables: list[Table]) -> str:
    """Write Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in tools(("torch",)).items())
    lines = [
        "# Errors of one optical pass",
        "",
        f"Written by `benchmarks/optical_errors.py` ({versions}); simulated, in relative L2 error,",
        f"images of {SIZE} x {SIZE}, kernels of {EXTENT} x {EXTENT}.",
    ]
    for table in tables:
        lines += ["", f"## {table.title}", "", "| " + " | ".join(table.columns) + " |"]
        lines += ["| --- |" + " ---: |" * (len(table.columns) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compute, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, help="page to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = page([*schemes(), *encodings(), *others()])
    print(text)
    if given.out is not None:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
