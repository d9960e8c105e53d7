"""A program as tables for the report: what is modelled is called so, what was measured stands by itself."""

from __future__ import annotations

from collections import Counter

from ..exhibit import Exhibit
from . import baseline
from .energy import Cost, amdahl, break_even_kernel, cost, fft_flops_per_pixel, frame_us, reality
from .presets import System
from .program import Program, Step
from .schedule import pure_passes

Row = tuple[str, ...]


def exhibits(program: Program) -> tuple[Exhibit, ...]:
    """Describe a program."""
    return (
        _hardware(program.system),
        _partition(program),
        _frames(program),
        _costs(program),
        _reality(program),
        _counted(program),
        _measured(program),
    )


def _hardware(system: System) -> Exhibit:
    parts = (
        ("input plane", system.input),
        ("mask", system.mask),
        ("camera", system.camera),
        ("laser", system.laser),
        ("electronics", system.electronics),
    )
    rows = tuple((what, part.title, part.source, part.date, _TAGS[part.tag]) for what, part in parts)
    note = (
        f"Preset {system.name}: {system.title}. Plane of {system.width} x {system.height} pixels, "
        f"{1e6 / frame_us(system):,.0f} frames a second, signs by {system.scheme}."
    )
    return Exhibit("Hardware that is modelled", ("part", "what", "source", "read", "tag"), rows, note, True)


_TAGS = {"S": "source read", "K": "to be checked", "H": "hypothetical"}


def _partition(program: Program) -> Exhibit:
    optical = [p for p in program.placements if p.optical]
    others = Counter((p.operator, p.reason) for p in program.placements if not p.optical)
    rows = [(p.node, p.operator, "optical", p.reason) for p in optical]
    rows += [
        (f"{count} nodes" if count > 1 else "1 node", operator, "electronic", why)
        for (operator, why), count in others.most_common()
    ]
    note = (
        f"{len(optical)} of {len(program.placements)} nodes are optical; program.json names every node. With "
        f"ideal optics the network equals its graph to a relative error of {program.proof:.1e}, no layer is "
        f"farther than {max((s.proof for s in program.steps), default=0.0):.1e}."
    )
    return Exhibit("Where each node is computed", ("node", "operator", "where", "why"), tuple(rows), note)


def _frames(program: Program) -> Exhibit:
    system = program.system
    columns = (
        *(
            "layer",
            "kernels",
            "pictures",
            "tiling",
            "images x channels x kernels in a frame",
            "frames, 1 sample",
        ),
        *(f"frames, {program.batch} samples", "best pure scheme", "pixels used", "electrons"),
    )
    rows = [_frame_row(step, system) for step in program.steps]
    single, whole = (sum(s.single.frames for s in program.steps), sum(s.plan.frames for s in program.steps))
    best = sum(_best_pure(step, system) for step in program.steps)
    rows.append(("all", "", "", "", "", f"{single:,}", f"{whole:,}", f"{best:,}", "", ""))
    note = (
        "Frames of the camera, all detection frames counted. Images, channels and kernels share a frame; the "
        "best pure scheme tiles only one of them, whatever light that leaves. Electrons: at the brightest "
        "pixel, modelled from laser, mask and exposure, at most a full well."
    )
    return Exhibit("Frames of each layer", columns, tuple(rows), note, True)


def _frame_row(step: Step, system: System) -> Row:
    layer, plan = step.layer, step.plan
    work, layout = plan.work, plan.layout
    shape = f"{layer.groups * layer.kernels} x {layer.channels} of {layer.kernel[0]}x{layer.kernel[1]}"
    return (
        layer.name,
        shape,
        f"{work.pictures:,} of {work.rows.n}x{work.columns.n}",
        plan.tiling,
        f"{layout.images} x {layout.channels} x {layout.kernels * layout.groups}",
        f"{step.single.frames:,}",
        f"{plan.frames:,}",
        f"{_best_pure(step, system):,}",
        f"{plan.utilisation(system.height, system.width):.1%}",
        f"{step.setting.electrons:,.0f}" + ("" if plan.bright else " (dim)"),
    )


def _best_pure(step: Step, system: System) -> int:
    passes = min(pure_passes(step.plan.work, system.height, system.width).values())
    return passes * step.plan.frames_per_pass


def costs(program: Program) -> tuple[Cost, Cost]:
    """Model one sample, and the program's batch."""
    return (
        cost([s.single for s in program.steps], program.system, electronic_macs=program.electronic_macs),
        cost(
            [s.plan for s in program.steps],
            program.system,
            electronic_macs=program.electronic_macs * program.batch,
        ),
    )


def _costs(program: Program) -> Exhibit:
    single, many = costs(program)
    pairs = (
        ("optics", single.optics_s, many.optics_s),
        ("link", single.link_s, many.link_s),
        ("electronics", single.electronics_s, many.electronics_s),
        ("latency, one after another", single.latency_s, many.latency_s),
        ("slowest stage, pipelined", single.stage_s, many.stage_s),
    )
    rows: list[Row] = [(name, f"{a * 1e3:,.3g} ms", f"{b * 1e3:,.3g} ms") for name, a, b in pairs]
    rows.append(("samples a second", _per_second(1, single), _per_second(program.batch, many)))
    for (name, a), (_, b) in zip(single.energies(), many.energies(), strict=True):
        rows.append((f"energy of {name}", f"{a * 1e3:,.3g} mJ", f"{b * 1e3:,.3g} mJ"))
    rows.append(("energy", f"{single.energy_j * 1e3:,.3g} mJ", f"{many.energy_j * 1e3:,.3g} mJ"))
    columns = ("part", "1 sample", f"{program.batch} samples")
    note = "Modelled from the presets' figures; nothing here was measured on light."
    return Exhibit("Latency and energy", columns, tuple(rows), note, True)


def _per_second(batch: int, one: Cost) -> str:
    return f"{batch / one.stage_s:,.4g}" if one.stage_s else "any"


def _reality(program: Program) -> Exhibit:
    system = program.system
    rate, bits = 1e6 / frame_us(system), system.camera.bits
    own = reality(system.width, system.height, rate, bits)
    paper = reality(3840, 2160, 2e6, 8)
    rows = (
        (f"this plane, {system.width}x{system.height} at {rate:,.0f} Hz", own.sentence),
        ("the plane of many papers, 3840x2160 at 2 MHz", paper.sentence),
    )
    note = "Frame rate is the least of input plane, mask where it is rewritten, camera and link."
    return Exhibit("Input and output against what is sold", ("plane", "asks for"), rows, note, True)


def _counted(program: Program) -> Exhibit:
    system, host = program.system, program.system.electronics
    works = [
        baseline.count(s.layer, s.single.work.pictures, s.single.work.rows.n, s.single.work.columns.n)
        for s in program.steps
    ]
    macs, flops = sum(w.direct_macs for w in works), sum(w.fft_flops for w in works)
    better = sum(min(w.direct_macs * host.mac_pj, w.fft_flops * host.flop_pj) for w in works) * 1e-12
    single = costs(program)[0]
    pixels = sum(s.single.frames for s in program.steps) * system.width * system.height
    optical = single.energy_j - single.electronics_j
    pixel = optical / pixels if pixels else 0.0
    rows: list[Row] = [
        ("direct convolution", f"{macs / 1e6:,.4g} M multiply-adds", f"{macs * host.mac_pj * 1e-9:,.3g} mJ"),
        ("FFT convolution", f"{flops / 1e6:,.4g} M flop", f"{flops * host.flop_pj * 1e-9:,.3g} mJ"),
        ("the cheaper for each layer", "", f"{better * 1e3:,.3g} mJ"),
        ("optics, modelled", f"{pixels / 1e6:,.4g} M pixels", f"{optical * 1e3:,.3g} mJ"),
    ]
    fft_pj = fft_flops_per_pixel(256) * host.flop_pj
    note = (
        f"Of the optical layers, for one sample, at {host.mac_pj:g} pJ a multiply-add, {host.flop_pj:g} pJ a "
        f"flop. A pixel of this system costs {pixel * 1e12:,.3g} pJ: cheaper than direct convolution from "
        f"kernels of {break_even_kernel(pixel, host.mac_pj * 1e-12)} pixels a side, and "
        f"{'cheaper' if pixel * 1e12 < fft_pj else 'never cheaper'} than a digital FFT ({fft_pj:.0f} pJ a "
        "pixel at 256x256), whose price does not depend on the kernel."
    )
    return Exhibit("Digital baselines, counted", ("way", "work", "energy"), tuple(rows), note, True)


def _measured(program: Program) -> Exhibit:
    known = program.measured
    share = max(0.0, 1 - known.electronic_ms / known.graph_ms) if known.graph_ms else 0.0
    rows = (
        ("the whole graph, one sample", f"{known.graph_ms:.3g} ms"),
        ("its electronic nodes alone", f"{known.electronic_ms:.3g} ms"),
        ("share of the optical layers", f"{share:.0%}"),
        ("largest speed-up of the whole with optics in no time", f"{amdahl(min(share, 0.999), 1e9):.3g}"),
    )
    note = (
        f"Measured while compiling on {known.host}, one thread, reference evaluator, fastest of several. "
        "No GPU was measured: a claim against one needs its own measurement."
    )
    return Exhibit("Digital baseline, measured on this machine", ("what", "measured"), rows, note)
