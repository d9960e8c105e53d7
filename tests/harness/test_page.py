import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from fourfold.calibration.ranges import DataSource
from fourfold.errors import UsageError
from fourfold.export.parity import Parity
from fourfold.harness.page import page
from fourfold.harness.paired import Comparison
from fourfold.harness.result import Interval, Verdict
from fourfold.harness.wording import digits, duration, equality, moment, p_value, put_aside, tolerance
from fourfold.runtimes.runtime import Executed

VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}
LOADS = {"src", "srcset", "data", "action", "poster", "background", "formaction"}


class Outline(HTMLParser):
    """Collect what a page is made of; fails on elements that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def test_the_whole_family_is_on_the_page_and_nests(family):
    reports, samples = family
    outline = Outline(page(reports, samples))
    for report in reports:
        assert report.title in outline.said
        for verdict in report.verdicts:
            assert verdict.sentence in outline.said
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids)) == len(reports)
    links = {(a["href"] or "").removeprefix("#") for t, a in outline.tags if t == "a"}
    assert links <= set(ids)


def test_the_page_loads_nothing_and_runs_nothing(family):
    outline = Outline(page(*family))
    assert not {t for t, _ in outline.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
    }
    for _, attributes in outline.tags:
        assert not LOADS & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", page(*family), re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert ("meta", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in [
        (t, a.get("content")) for t, a in outline.tags if a.get("http-equiv")
    ]


def test_hostile_text_stays_text(report):
    bad = "<img src=x onerror=alert(1)>\"'&{{ 7*7 }}\x00\ud800"
    hostile = report(
        model=bad,
        device_title=bad,
        command=bad,
        facts={bad: bad},
        tools={bad: bad},
        warnings=(bad,),
        sizes={f"compiled/{bad}": 1},
        verdicts=(Verdict(bad, False, bad),),
        executed=(Executed(bad, bad, 1, 1.0),),
        accuracy=None,
        accuracy_note=bad,
        latency=None,
        latency_note=bad,
        calibration=DataSource(bad, "real", 1, "00"),
    )
    text = page([hostile, hostile], {hostile.title: np.arange(1, 50) * 1000})
    outline = Outline(text)
    assert "img" not in {t for t, _ in outline.tags}
    assert "{{ 7*7 }}" in outline.said
    text.encode("utf-8")


def test_one_bundle_is_named_in_the_title(report):
    text = page([report()], {})
    assert "<title>smt_nano@cpu-ort-fp32</title>" in text
    assert "bundles compared" not in text


def test_measured_figures_are_shown_with_interval_and_n(report):
    said = Outline(page([report()], {})).said
    whole = report()
    assert "91.8 %" in said
    assert "n = 2000" in said
    assert f"n = {whole.latency.n}" in said
    assert duration(whole.latency.median_ms.value) in said
    assert "broke 9, fixed 4" in said
    assert "p = 0.27" in said


def test_a_percentile_without_samples_is_refused_with_its_reason(report):
    outline = Outline(page([report()], {}))
    hovers = [a["title"] for t, a in outline.tags if t == "abbr"]
    assert "needs 2995 samples, there are 1200" in hovers
    assert "p99.9 not given" in outline.said


def test_what_is_missing_says_why(report):
    bare = report(
        accuracy=None,
        accuracy_note="no labelled samples",
        latency=None,
        latency_note="this machine is not the phone",
        executed=(),
        history=(),
        parity=(),
        facts={},
        sizes={},
        verdicts=(),
        command="",
    )
    said = Outline(page([bare], {})).said
    assert "not scored: no labelled samples" in said
    assert "not timed: this machine is not the phone" in said
    assert "made from Python" in said


def test_synthetic_calibration_marks_the_whole_page(report):
    clean, noise = report(precision="int8"), DataSource("noise", "synthetic", 64, "ee" * 32, 0)
    assert "watermark" not in {a.get("class") for _, a in Outline(page([clean], {})).tags}
    outline = Outline(page([clean, report(model="other", precision="int8", calibration=noise)], {}))
    assert "watermark" in {a.get("class") for _, a in outline.tags}
    assert "Synthetic calibration. The int8 ranges of other@cpu-ort-int8 come from noise" in outline.said


def test_a_failed_gate_is_on_top(report):
    failed = report(model="bad", verdicts=(Verdict("latency", False, "twice as slow as allowed"),))
    said = Outline(page([report(), failed], {})).said
    top = said[: said.index("At a glance")]
    assert "bad@cpu-ort-fp32: latency failed. twice as slow as allowed" in top
    assert "smt_nano@" not in top


def test_warnings_of_several_bundles_are_said_once_on_top(report):
    warned = [report(model=m, warnings=("Random weights.",)) for m in ("one", "two")]
    said = Outline(page(warned, {})).said
    assert said[: said.index("At a glance")].count("Random weights.") == 1
    assert "one@cpu-ort-fp32, two@cpu-ort-fp32" in said


def test_refusals_are_grouped_by_reason(report):
    outline = Outline(page([report()], {}))
    assert "15 places were left as they were, for 2 reasons" in outline.said
    assert "14 × the output is used twice" in outline.said
    assert "stage3.block13.mixer.conv" in outline.said


def test_parity_shows_the_tolerance_and_its_verdict(report):
    off = Parity("fp32", "torch", "compiled", 7, 0.5, 0.25, 12.0, "logits", False)
    said = Outline(page([report(parity=(off,))], {})).said
    assert "relative ≤ 0.0001" in said
    assert "✗ differs" in said


def test_a_comparison_is_shown_in_words(report):
    fast, slow = report(precision="int8"), report()
    assert slow.latency is not None
    compared = Comparison(
        labels=(slow.title, fast.title),
        samples_ns=np.zeros((1, 4, 1), dtype=np.int64),
        order=np.zeros((1, 4), dtype=np.int8),
        opening=np.zeros(1, dtype=np.int64),
        medians_ms=(2.0, 1.4),
        ratio=Interval(0.7, 0.69, 0.715),
        itself=Interval(1.0, 0.99, 1.01),
        noise_floor=0.011,
        margin=0.02,
        verdict="faster",
        sentence="takes 0.70 times the time",
        clock="perf_counter_ns",
        affinity=(),
        host=slow.latency.host,
        started="2026-11-20T10:11:12+00:00",
    )
    said = Outline(page([slow, fast], {}, [compared])).said
    assert f"faster than {slow.title}" in said
    assert "0.690 to 0.715" in said
    assert "± 1.1 %" in said
    assert "takes 0.70 times the time" in said


def test_two_bundles_of_one_title_are_both_shown(report):
    twin = report()
    text = page([twin, twin], {twin.title: np.arange(1, 300) * 10_000})
    assert text.count('id="bundle-') == 2


def test_the_same_reports_give_the_same_page(family):
    assert page(*family) == page(*family)


def test_a_page_of_nothing_is_refused():
    with pytest.raises(UsageError, match="expected reports"):
        page([], {})


def test_plots_keep_the_colour_of_their_bundle(family):
    reports, samples = family
    text = unescape(page(reports, samples))
    assert all(f"color:var(--c{i})" in text for i in range(8))
    one = page([replace(r) for r in reports[:1]], samples)
    assert "--c1)" not in one.split("</style>")[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.912345, "0.912"),
        (21.04, "21.0"),
        (1234.5, "1,234"),
        (3.1e-7, "3.10e-07"),
        (float("inf"), "∞"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert digits(value) == text


def test_words_around_numbers():
    assert duration(0.0421) == "42.1 µs"
    assert p_value(1e-9) == "p < 0.0001"
    assert tolerance("int8") == "at least 10 dB"
    assert tolerance("gone") == "not in this version's table"
    assert moment("2026-11-20T12:11:12+02:00") == "2026-11-20 10:11 UTC"
    assert moment("yesterday") == "yesterday"


def test_the_worst_comparison_of_a_step_is_the_one_that_is_said():
    good = Parity("fold", "a", "b", 1, 0.0, 1e-7, 130.0, "y", True)
    worse = replace(good, batch=3, relative=4e-6)
    bad = replace(good, batch=4, relative=1e-9, ok=False)
    assert equality([good, worse]) == "equal: relative 4.0e-06, 130 dB (batch 1, 3)"
    assert equality([good, worse, bad]).startswith("differs: relative 1.0e-09")
    assert "relative ∞" in equality([replace(good, relative=math.inf)])
    assert equality([]) == ""
    edge = [replace(good, redrawn=2), replace(worse, redrawn=1)]
    assert equality(edge).endswith("(batch 1, 3), 3 inputs on the edge of a decision put aside")
    assert put_aside(1) == ", 1 input on the edge of a decision put aside"
