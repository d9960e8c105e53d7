"""Reports as one self-contained page: no network, no script, readable on a phone and on paper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import jinja2
from markupsafe import Markup

from ..errors import UsageError
from ..export.artifact import Array, Refusal, Step
from . import wording
from .bars import Bars, history_plot, size_plot
from .drawing import COLOURS, size_text
from .plots import Point, accuracy_plot, latency_plot
from .result import Report

if TYPE_CHECKING:
    from .paired import Comparison

COMPILED = "compiled/"
GRAPH = "model.onnx"


@dataclass(frozen=True)
class Kept:
    """Places that a step left as they were for one reason."""

    step: str
    reason: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """One bundle as the page shows it."""

    report: Report
    index: int
    history: Markup
    """Plot of the steps."""
    kept: tuple[Kept, ...]
    compiled: int
    """Bytes that go to the device."""
    graph: int
    """Bytes of the graph it was compiled from; 0 when unknown."""

    @property
    def anchor(self) -> str:
        """The section's place on the page: titles may hold anything, and may repeat."""
        return f"bundle-{self.index}"

    @property
    def colour(self) -> int:
        """The number of its colour."""
        return self.index % COLOURS

    @property
    def synthetic(self) -> bool:
        """True when the ranges come from noise."""
        return self.report.calibration is not None and self.report.calibration.kind == "synthetic"


@dataclass(frozen=True)
class Warned:
    """One warning and the bundles that it is about."""

    text: str
    titles: tuple[str, ...]


class Drawn(NamedTuple):
    """One plot with its caption."""

    name: str
    caption: str
    plot: Markup


def page(
    reports: Sequence[Report], samples: Mapping[str, Array], comparisons: Sequence[Comparison] = ()
) -> str:
    """Write the page.

    Args:
        reports: One for each bundle, in the order to show.
        samples: (n,) nanoseconds by the report's title, for those that were timed.
        comparisons: Interleaved timings of pairs of the bundles.

    Returns:
        One HTML document.

    Raises:
        UsageError: If there is no report.
    """
    if not reports:
        raise UsageError(f"expected reports for a page, got {len(reports)}; name the bundles to show")
    views = tuple(_view(report, i) for i, report in enumerate(reports))
    text = _template().render(
        views=views,
        warnings=_warnings(views),
        synthetic=any(v.synthetic for v in views),
        failed=[v for v in views if not v.report.ok],
        plots=_plots(views, samples),
        comparisons=comparisons,
    )
    # What a system hands over as a name may not be text; a page always is.
    return text.encode("utf-8", errors="replace").decode("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fourfold.harness", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        digits=wording.digits,
        percent=wording.percent,
        percent_interval=wording.percent_interval,
        duration=wording.duration,
        duration_interval=wording.duration_interval,
        p_value=wording.p_value,
        tolerance=wording.tolerance,
        tolerance_reason=wording.reason,
        equality=wording.equality,
        put_aside=wording.put_aside,
        moment=wording.moment,
        data_uri=wording.data_uri,
        size=size_text,
    )
    return environment.get_template("report.html.j2")


def _view(report: Report, index: int) -> View:
    return View(
        report=report,
        index=index,
        history=Markup(history_plot(report.history)),
        kept=_kept(report.history),
        compiled=sum(n for name, n in report.sizes.items() if name.startswith(COMPILED)),
        graph=report.sizes.get(GRAPH, 0),
    )


def _kept(history: Sequence[Step]) -> tuple[Kept, ...]:
    """Group what the steps declined to do by its reason, most frequent first."""
    groups: dict[tuple[str, str], list[Refusal]] = defaultdict(list)
    for step in history:
        for refusal in step.refusals:
            groups[step.name, refusal.reason].append(refusal)
    kept = [
        Kept(name, reason, tuple(r.where for r in refusals)) for (name, reason), refusals in groups.items()
    ]
    return tuple(sorted(kept, key=lambda k: -len(k.where)))


def _warnings(views: Sequence[View]) -> tuple[Warned, ...]:
    titles: dict[str, list[str]] = defaultdict(list)
    for view in views:
        for text in view.report.warnings:
            titles[text].append(view.report.title)
    return tuple(Warned(text, tuple(dict.fromkeys(named))) for text, named in titles.items())


def _plots(views: Sequence[View], samples: Mapping[str, Array]) -> tuple[Drawn, ...]:
    """Draw what compares bundles; a plot with nothing to show is left out."""
    timed = {v.report.title: v.report.latency for v in views}
    points = [
        Point(v.report.title, v.index, v.report.latency.median_ms, v.report.accuracy.interval)
        for v in views
        if v.report.latency is not None and v.report.accuracy is not None
    ]
    latency = latency_plot(
        {title: samples[title] for title in timed if title in samples},
        {title: summary.median_ms for title, summary in timed.items() if summary is not None},
        {v.report.title: v.index for v in reversed(views)},
    )
    sizes = size_plot([Bars(v.report.title, v.index, v.compiled, v.graph) for v in views if v.compiled])
    drawn = (
        Drawn("latency", "Latency, every measured call", Markup(latency)),
        Drawn("size", "Size on the device", Markup(sizes)),
        Drawn(
            "accuracy",
            "Accuracy against latency, measured",
            Markup(accuracy_plot(points) if len(points) > 1 else ""),
        ),
    )
    return tuple(d for d in drawn if d.plot)
