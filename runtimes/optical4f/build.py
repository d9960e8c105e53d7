"""From a graph to a program: partition, look at real samples, schedule, set up, prove with ideal optics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch

from ...export.artifact import Array, Exported, Feed, Run
from ...export.parity import Parity, parity, require
from ...export.rules.shapes import infer_shapes
from ..reference import evaluate
from .baseline import fastest_ms, host_name
from .lower import picture_size
from .partition import Lowered, Partition, Placement, partition
from .passes import Optics, Setting
from .presets import System
from .program import VERSION, Loaded, Measured, Program, Step
from .segments import cut, segments
from .session import execute, with_bias
from .set_up import BATCH, set_up
from .settle import fits, scheduled, setting_of
from .vary import Adjust, as_it_is

Observed = Mapping[str, Array]
"""Arrays of the graph on some inputs, by name."""


@dataclass(frozen=True)
class _Site:
    """An optical node with what it met on the golden inputs."""

    lowered: Lowered
    x: Array
    y: Array
    pictures: int
    """Of one sample."""
    size: tuple[int, int]


def build(exported: Exported, system: System, batch: int, adjust: Adjust = as_it_is) -> Loaded:
    """Compile a graph.

    Args:
        exported: The graph; its samples, or its golden inputs, set up modulator and camera.
        system: The hardware.
        batch: Samples that the schedule is made for.
        adjust: What differs from the hardware while it is set up.

    Returns:
        The program with its arrays and its electronic graph.

    Raises:
        BuildError: If the graph is not valid.
        VerdictError: If ideal optics do not compute what the graph says.
    """
    evaluate(exported.model)  # an invalid graph ends here
    model = exported.model.clone()
    infer_shapes(model)
    parts = partition(model)
    golden = exported.golden.inputs
    samples = next(iter(golden.values())).shape[0] if golden else 1
    seen = observe(model, golden)
    sites, placements = _fitting(parts, seen, samples, system)
    ends = [(site.lowered.source, site.lowered.target) for site in sites]
    rest = cut(model, ends)
    steps = [_step(site, system, batch) for site in sites]
    settled = _set_up(sites, steps, exported, model, system, adjust)
    arrays: dict[str, Array] = {}
    for number, (site, (_, levels)) in enumerate(zip(sites, settled, strict=True)):
        arrays[f"{number}.kernels"] = site.lowered.kernels
        arrays[f"{number}.levels"] = levels
        if site.lowered.bias is not None:
            arrays[f"{number}.bias"] = site.lowered.bias
    program = Program(
        version=VERSION,
        name=exported.name,
        system=system,
        inputs=exported.inputs,
        outputs=exported.outputs,
        batch=batch,
        placements=placements,
        steps=tuple(step for step, _ in settled),
        electronic_macs=electronic_operations(rest, seen, samples),
        proof=0.0,
        measured=Measured("", 0.0, 0.0),
    )
    loaded = Loaded(program, arrays, rest)
    whole = prove_whole(loaded, exported, seen)
    return loaded._replace(program=replace(program, proof=whole, measured=_measure(loaded, model, exported)))


def observe(model: ir.Model, feed: Feed) -> Observed:
    """Run the graph once and keep every value of a known type."""
    return {**feed, **_watched(model)(feed)}


def _watched(model: ir.Model) -> Run:
    """Make a graph runnable with every value of a known type among its outputs."""
    shown = model.clone()
    graph = shown.graph
    kept = {value.name for value in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.name and value.name not in kept and value.type is not None:
                graph.outputs.append(value)
    return evaluate(shown)


def _fitting(
    parts: Partition, seen: Observed, samples: int, system: System
) -> tuple[list[_Site], tuple[Placement, ...]]:
    """Keep the optical nodes whose pictures fit the plane; the others become electronic."""
    sites: list[_Site] = []
    refused: dict[str, str] = {}
    for lowered in parts.lowered.values():
        x, y = seen.get(lowered.source), seen.get(lowered.target)
        if x is None or y is None:
            refused[lowered.layer.name] = "its input or output has no known type"
            continue
        count, height, width = picture_size(lowered.layer, x.shape)
        if not fits(lowered.layer, (height, width), system):
            plane = f"{system.height}x{system.width}"
            refused[lowered.layer.name] = f"a picture of {height}x{width} is larger than the plane of {plane}"
            continue
        pictures = -(-lowered.layer.pictures(count) // samples)
        sites.append(_Site(lowered, x, y, pictures, (height, width)))
    placements = tuple(
        replace(one, optical=False, reason=refused[one.node]) if one.node in refused else one
        for one in parts.placements
    )
    return sites, placements


def _step(site: _Site, system: System, batch: int) -> Step:
    """Schedule one layer and prove it."""
    layer = site.lowered.layer
    single, chosen = (scheduled(layer, site.pictures * n, site.size, system) for n in (1, batch))
    setting = setting_of(layer, chosen, system)
    proof = _prove(site, setting, system)
    return Step(layer, site.lowered.source, site.lowered.target, setting, single, chosen, proof.relative)


def _set_up(
    sites: Sequence[_Site],
    steps: Sequence[Step],
    exported: Exported,
    model: ir.Model,
    system: System,
    adjust: Adjust,
) -> list[tuple[Step, Array]]:
    """Set all layers up on real samples, and give them with their levels."""
    layers = [
        Optics(step.layer, torch.from_numpy(site.lowered.kernels), step.setting, system, adjust)
        for step, site in zip(steps, sites, strict=True)
    ]
    run = _watched(model)

    def seen() -> Iterable[list[torch.Tensor]]:
        for feed in _feeds(exported):
            values = {**feed, **run(feed)}
            yield [torch.from_numpy(np.ascontiguousarray(values[step.source])) for step in steps]

    return [
        (
            replace(
                step,
                setting=ready.setting,
                single=replace(step.single, exposure=ready.exposure),
                plan=replace(step.plan, exposure=ready.exposure),
            ),
            ready.levels.float().numpy(),
        )
        for step, ready in zip(steps, set_up(layers, seen) if layers else (), strict=True)
    ]


def _feeds(exported: Exported) -> Iterable[Feed]:
    """Give what a device is set up on; samples repeat where they do not fill a batch of fixed size."""
    if exported.seen is None:
        return [exported.golden.inputs]
    fixed = exported.inputs[0].shape[0]
    if not isinstance(fixed, int):
        return exported.seen(BATCH)
    return (
        {name: np.resize(a, (fixed, *a.shape[1:])) for name, a in f.items()} for f in exported.seen(fixed)
    )


def _prove(site: _Site, setting: Setting, system: System) -> Parity:
    """Compare ideal optics with the electronic node on real samples; in float64, so that only errors show."""
    ideal = replace(system, ideal=True)
    kernels = torch.from_numpy(site.lowered.kernels).double()
    optics = Optics(site.lowered.layer, kernels, replace(setting, peak=0.0), ideal)
    bias = site.lowered.bias
    answer = with_bias(optics, None, bias)(site.x.astype(np.float64), 0)
    name = site.lowered.layer.name
    found = parity(
        "optics",
        {name: site.y},
        {name: answer},
        names=("electronic node", f"ideal optics of {name}"),
        batch=site.x.shape[0],
    )
    require((found,), f"lowering {name}")
    return found


def prove_whole(loaded: Loaded, exported: Exported, seen: Observed) -> float:
    """Compare the whole network with ideal optics with its graph, on the golden inputs.

    Returns:
        The relative error.

    Raises:
        VerdictError: If it is beyond the table.
    """
    program = loaded.program
    ideal = replace(program.system, ideal=True)
    layers = [
        with_bias(
            Optics(step.layer, torch.from_numpy(loaded.arrays[f"{i}.kernels"]), step.setting, ideal),
            None,
            loaded.arrays.get(f"{i}.bias"),
        )
        for i, step in enumerate(program.steps)
    ]
    stages = segments(loaded.rest, program.ends)
    values = execute(program, stages, layers, exported.golden.inputs, 0)
    reference = {spec.name: seen[spec.name] for spec in exported.outputs}
    found = parity(
        "optics-whole",
        reference,
        {name: values[name] for name in reference},
        names=("graph", "network with ideal optics"),
        batch=next(iter(exported.golden.inputs.values())).shape[0] if exported.golden.inputs else 1,
    )
    require((found,), "lowering to optics")
    return found.relative


def electronic_operations(rest: ir.Model, seen: Observed, samples: int) -> float:
    """Count what stays electronic, for one sample: multiply-adds of products, one operation a number else."""
    total = 0.0
    for node in rest.graph:
        made = sum(seen[str(v.name)].size for v in node.outputs if v.name in seen)
        depth = 1
        if (
            node.op_type in ("MatMul", "Gemm")
            and (first := node.inputs[0]) is not None
            and first.name in seen
        ):
            depth = seen[str(first.name)].shape[-1]
        if node.op_type == "Conv" and (weights := node.inputs[1]) is not None and weights.shape is not None:
            depth = int(np.prod([d for d in weights.shape if isinstance(d, int)][1:]))
        total += made * depth
    return total / samples


def _measure(loaded: Loaded, model: ir.Model, exported: Exported) -> Measured:
    """Time the graph, and its electronic stages alone, for one sample (or the batch it is fixed to)."""
    free = all(spec.shape and isinstance(spec.shape[0], str) for spec in exported.inputs)
    feed = {name: array[:1] if free else array for name, array in exported.golden.inputs.items()}
    graph = evaluate(exported.model)
    stages = segments(loaded.rest, loaded.program.ends)
    values = dict(observe(model, feed))

    def electronic() -> None:
        for stage in stages:
            if stage is not None:
                stage.run({name: values[name] for name in stage.inputs})

    samples = next(iter(feed.values())).shape[0] if feed else 1
    return Measured(host_name(), fastest_ms(lambda: graph(feed)) / samples, fastest_ms(electronic) / samples)
