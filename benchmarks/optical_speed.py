"""The optical simulation beside the Fourier transforms it cannot do without, and beside other simulators.

    python benchmarks/optical_speed.py --rounds 15 --optnn DIR -o benchmarks/optical_speed.json

Three cases, float32 and complex64 on one thread:

* ``ideal tiles``: 64 tiles in planes of 256 x 256 under one kernel of 7 x 7, beside the fastest plain ways
  of torch to compute the same numbers;
* ``noisy pass``: a plane of 1024 x 1024 with 8 bits in input, mask and camera, all frames of the scheme,
  shot and read noise, beside one pair of complex transforms, and beside both frames of the same 4f system as
  sampled waves in torchoptics (extra ``validate``), padded by half the grid on each side;
* ``whole layer``: batch 8, 64 to 64 channels of 16 x 16, kernel 3 x 3, pseudo-negative and without noise,
  beside OptNN 0.1 (``pip install --no-deps --target DIR optnn==0.1``; imports that it only plots with are
  replaced by empty modules where they are missing). OptNN pairs channels wrongly for batches, so its answer
  is checked for one image and one channel.

A round runs every contestant once, in an order drawn by lot, each after one call that refills the caches.
Ratios are formed within a round, of processor time. Contestants that take seconds join only a few rounds.
Writes the JSON, and a page of the same name ending in ``.md``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from fourfold.harness.host import host, tools
from fourfold.runtimes.optical4f.conditions import IDEAL, Conditions
from fourfold.runtimes.optical4f.convolve import Geometry, conv_masks, optical_conv2d
from fourfold.runtimes.optical4f.masks import prepare_masks
from fourfold.runtimes.optical4f.plane import Window
from fourfold.runtimes.optical4f.simulate import simulate_pass

PACKAGES = ("torch", "torchoptics", "optnn")
RARE = 2
"""Rounds that slow contestants join."""
NOISY = Conditions(input_bits=8, mask_bits=8, adc_bits=8, electrons=1e4, full_well=1e4, read_noise=5.0)


@dataclass
class Contestant:
    """One way through a case; figures are filled in by the rounds."""

    name: str
    ours: bool
    call: Callable[[], object]
    rare: bool = False
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)


@dataclass
class Case:
    """Contestants that compute the same thing, or a floor below it."""

    name: str
    target: str
    contestants: list[Contestant]
    note: str = ""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ideal_tiles() -> Case:
    tiles, kernel = torch.rand(64, 250, 250, generator=seeded()), torch.randn(7, 7, generator=seeded(1))
    window = Window((3, 3, 3, 3))
    masks = prepare_masks(kernel, (256, 256), conditions=IDEAL)
    planes = pad(tiles, (3, 3, 3, 3))
    half = torch.fft.rfft2(kernel, s=(256, 256)).conj().resolve_conj()
    weight = kernel.expand(64, 1, 7, 7).contiguous()

    def by_rfft() -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(planes) * half, s=(256, 256))

    def depthwise() -> Tensor:
        return conv2d(planes[None], weight, groups=64)[0]

    def ours() -> Tensor:
        return simulate_pass(tiles, masks, window=window).answer

    wanted = depthwise()
    for answer in (by_rfft()[:, :250, :250], ours()):
        assert float((answer - wanted).norm() / wanted.norm()) < 1e-5
    contestants = [
        Contestant("torch rfft2, multiply, irfft2", False, by_rfft),
        Contestant("torch depthwise convolution", False, depthwise),
        Contestant("**simulated pass, ideal**", True, ours),
    ]
    return Case(
        "ideal tiles: 64 x 256 x 256, kernel 7", "at most 1.25 of the faster one of torch's", contestants
    )


def noisy_pass() -> Case:
    image, kernel = torch.rand(1018, 1018, generator=seeded()), torch.randn(7, 7, generator=seeded(1))
    plane = torch.randn(1024, 1024, dtype=torch.complex64, generator=seeded(2))
    window, generator = Window((3, 3, 3, 3)), seeded(3)
    contestants = [
        Contestant("fft2 and ifft2, complex64", False, lambda: torch.fft.ifft2(torch.fft.fft2(plane)))
    ]
    for scheme in ("pseudo-negative", "homodyne", "incoherent"):
        masks = prepare_masks(kernel, (1024, 1024), scheme=scheme, conditions=NOISY)
        name = f"**noisy pass, {scheme}**"
        contestants.append(Contestant(name, True, _pass(image, masks, window, generator)))
    contestants += _sampled_waves()
    return Case(
        "noisy pass: 1024 x 1024, both frames",
        "at most 2.5 of the transforms; a hundredth of torchoptics",
        contestants,
    )


def _pass(image: Tensor, masks: Any, window: Window, generator: torch.Generator) -> Callable[[], object]:
    return lambda: simulate_pass(image, masks, window=window, generator=generator)


def _sampled_waves() -> list[Contestant]:
    try:
        import torchoptics
        from torchoptics.elements import Lens, Modulator
    except ImportError:
        return []
    torchoptics.set_default_wavelength(532e-9)
    torchoptics.set_default_spacing(4e-6)
    points, focal_length = 1024, 30.8e-3
    light = torch.rand(points, points, generator=seeded(), dtype=torch.float64) + 0j
    parts = (
        Lens((points, points), focal_length, z=focal_length),
        Modulator(torch.ones_like(light), z=2 * focal_length),
        Lens((points, points), focal_length, z=3 * focal_length),
    )

    def frame() -> object:
        field = torchoptics.Field(light, z=0)
        for part in parts:
            field = part(field.propagate_to_z(part.z, propagation_method="ASM", asm_pad=(points // 2,) * 2))
        return field.propagate_to_z(4 * focal_length, propagation_method="ASM", asm_pad=(points // 2,) * 2)

    def waves() -> object:
        return frame(), frame()

    return [Contestant("torchoptics, both frames, without noise", False, waves, rare=True)]


def whole_layer(optnn: Path | None) -> Case:
    inputs, weight = (
        torch.rand(8, 64, 16, 16, generator=seeded()),
        torch.randn(64, 64, 3, 3, generator=seeded(1)),
    )
    geometry = Geometry(Window((1, 1, 1, 1)))
    masks = conv_masks(weight, (16, 16), geometry, scheme="pseudo-negative")
    noisy = conv_masks(weight, (16, 16), geometry, scheme="pseudo-negative", conditions=NOISY)
    generator = seeded(2)
    contestants = [
        Contestant("**whole layer**", True, lambda: optical_conv2d(inputs, masks, geometry.window)),
        Contestant(
            "**whole layer, with bits and noise**",
            True,
            lambda: optical_conv2d(inputs, noisy, geometry.window, generator=generator),
        ),
    ]
    if optnn is not None:
        contestants.append(_optnn(optnn, inputs, weight))
    return Case("whole layer: 8 x 64 x 64 x 16 x 16, kernel 3", "a fortieth of OptNN", contestants)


def _optnn(folder: Path, inputs: Tensor, weight: Tensor) -> Contestant:
    layer = _optnn_layer(folder)
    single = layer(1, 1, 3, is_bias=False, pseudo_negativity=True, input_size=16, noise=False)
    single.kernel.data.copy_(weight[:1, :1])
    with torch.no_grad():
        got = single(inputs[:1, :1])
    wanted = conv2d(pad(inputs[:1, :1], (2, 2, 2, 2)), weight[:1, :1].flip((-2, -1)), padding=1)
    assert _nearest(got[0, 0], wanted[0, 0]) < 1e-4, "OptNN computes something else"
    full = layer(64, 64, 3, is_bias=False, pseudo_negativity=True, input_size=16, noise=False)
    full.kernel.data.copy_(weight)

    def run() -> Tensor:
        with torch.no_grad():
            return full(inputs)

    return Contestant("OptNN 0.1, without noise", False, run, rare=True)


def _nearest(got: Tensor, plane: Tensor) -> float:
    """Relative error against the best place and turn of a window of the expected plane."""
    rows, columns = got.shape
    errors: list[float] = []
    for turned in (plane, plane.flip((0, 1))):
        for down in range(turned.shape[0] - rows + 1):
            for right in range(turned.shape[1] - columns + 1):
                part = turned[down : down + rows, right : right + columns]
                errors.append(float((got - part).norm() / part.norm()))
    return min(errors)


def _optnn_layer(folder: Path) -> Any:
    absent = [name for name in ("seaborn", "skimage", "scipy") if find_spec(name) is None]
    for name in (*absent, *(f"{name}.transform" for name in absent)):
        module = types.ModuleType(name)
        for unused in ("io", "rescale", "resize", "downscale_local_mean", "signal"):
            setattr(module, unused, None)
        sys.modules[name] = module
    sys.path.insert(0, str(folder))
    from optnn.OpticalConv2d import OpticalConv2d  # pyright: ignore[reportMissingImports]

    return OpticalConv2d


def run_rounds(case: Case, rounds: int, seed: int) -> None:
    order = random.Random(seed)
    for number in range(rounds):
        present = [c for c in case.contestants if not c.rare or number < RARE]
        for contestant in order.sample(present, len(present)):
            if not contestant.rare:
                contestant.call()
            wall, cpu = time.perf_counter(), time.process_time()
            contestant.call()
            contestant.cpu_ms.append((time.process_time() - cpu) * 1e3)
            contestant.wall_ms.append((time.perf_counter() - wall) * 1e3)


def ratios(contestant: Contestant, floor: Contestant) -> list[float]:
    """Cost against another contestant, round by round."""
    return [a / b for a, b in zip(contestant.cpu_ms, floor.cpu_ms, strict=False)]


def floor_of(case: Case) -> Contestant:
    others = [c for c in case.contestants if not c.ours and not c.rare]
    return min(others or case.contestants, key=lambda c: statistics.median(c.cpu_ms))


def page(cases: list[Case], facts: dict[str, Any]) -> str:
    machine = facts["host"]
    lines = [
        "# Speed of the optical simulation",
        "",
        "Written by `benchmarks/optical_speed.py`; `optical_speed.json` has all raw rounds.",
        "",
        f"* Machine: {machine['processor']}, {machine['cores']} cores, one thread, load {machine['load']}",
        "* Versions: " + ", ".join(f"{name} {version}" for name, version in facts["tools"].items()),
        f"* {facts['rounds']} rounds, interleaved; contestants that take seconds joined {RARE} of them",
        "* *cpu* is processor time; *ratio* is formed within rounds against the floor, the cheapest "
        "contestant that is not ours",
    ]
    for case in cases:
        floor = floor_of(case)
        lines += ["", f"## {case.name}", "", f"Wanted: {case.target}. {case.note}".strip(), ""]
        lines += ["| contestant | cpu median ms | quartiles | min | wall min | ratio, median | quartiles |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        lines += [row(contestant, floor) for contestant in case.contestants]
    return "\n".join(lines) + "\n"


def row(contestant: Contestant, floor: Contestant) -> str:
    cpu, ratio = contestant.cpu_ms, ratios(contestant, floor)
    return (
        f"| {contestant.name} | {statistics.median(cpu):.1f} | {spread(cpu, 1)} | {min(cpu):.1f} "
        f"| {min(contestant.wall_ms):.1f} | {statistics.median(ratio):.2f} | {spread(ratio, 2)} |"
    )


def spread(values: list[float], digits: int) -> str:
    if len(values) < 4:
        return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optnn", type=Path, help="folder that OptNN 0.1 was installed into")
    parser.add_argument("-o", "--out", type=Path, help="JSON to write; the page lies beside it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cases = [ideal_tiles(), noisy_pass(), whole_layer(given.optnn)]
    for case in cases:
        run_rounds(case, given.rounds, given.seed)
    facts: dict[str, Any] = {"rounds": given.rounds, "host": asdict(host()), "tools": dict(tools(PACKAGES))}
    text = page(cases, facts)
    print(text)
    if given.out is not None:
        figures = [
            {
                "name": case.name,
                "target": case.target,
                "contestants": [
                    {"name": c.name, "ours": c.ours, "cpu_ms": c.cpu_ms, "wall_ms": c.wall_ms}
                    for c in case.contestants
                ],
            }
            for case in cases
        ]
        given.out.write_text(json.dumps(facts | {"cases": figures}, indent=1) + "\n")
        given.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
