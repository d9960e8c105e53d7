"""A program as pictures for the report: when each layer has the plane, and what a speed-up stands on."""

from __future__ import annotations

from ..exhibit import Exhibit
from .claims import Claim
from .energy import cost, frame_us, optics_seconds
from .pictures import Span, gantt, tornado
from .program import Program

FACTOR = 2.0
"""By which each input of a claim is divided, and multiplied."""


def charts(program: Program) -> tuple[Exhibit, ...]:
    """Draw a program; nothing where light computes nothing."""
    return (_schedule(program), _sensitivity(program)) if program.steps else ()


def _schedule(program: Program) -> Exhibit:
    system = program.system
    spans: list[Span] = []
    now = 0.0
    for step in program.steps:
        plan = step.plan
        took = optics_seconds(plan, system)
        loads = min(plan.mask_loads, plan.frames)
        waiting = took - plan.frames * frame_us(system) * 1e-6
        note = f"{plan.frames:,} frames"
        spans.append(Span(step.layer.name, "frames", now, now + took - waiting, note))
        if waiting > 0:
            spans.append(Span(step.layer.name, "mask", now + took - waiting, now + took, f"{loads:,} loads"))
        now += took
    whole = cost(
        [step.plan for step in program.steps], system, electronic_macs=program.electronic_macs * program.batch
    )
    spans.append(Span("all frames over the link", "link", now, now + whole.link_s))
    now += whole.link_s
    spans.append(Span("electronic nodes", "electronics", now, now + whole.electronics_s))
    note = (
        f"One batch of {program.batch}, everything after everything. Waiting for masks is drawn at the end "
        "of its layer; link and electronics are summed over the layers."
    )
    title = "Schedule of a batch"
    return Exhibit(title, note=note, modelled=True, picture=gantt(f"{title}, modelled", spans))


def _sensitivity(program: Program) -> Exhibit:
    claim = Claim(
        digital_s=program.measured.graph_ms * 1e-3 * program.batch,
        batch=program.batch,
        frames=sum(step.plan.frames for step in program.steps),
        frames_per_second=1e6 / frame_us(program.system),
    )
    bars = claim.tornado(FACTOR)
    rows = tuple((name, f"{low:.3g}", f"{high:.3g}") for name, (low, high) in bars.items())
    note = (
        f"Modelled time of the frames alone against the whole network on {program.measured.host}, one "
        f"thread, {program.measured.graph_ms:.3g} ms a sample: a ratio of {claim.speed_up:.3g}, without link "
        f"and electronics. Each input alone is divided, and multiplied, by {FACTOR:g}."
    )
    title = "What the speed-up stands on"
    picture = tornado(f"{title}, modelled", claim.speed_up, bars, unit="x")
    columns = ("input", f"ratio at 1/{FACTOR:g}", f"ratio at {FACTOR:g}")
    return Exhibit(title, columns, rows, note, modelled=True, picture=picture)
