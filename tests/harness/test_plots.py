import math
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fourfold.export.artifact import Step
from fourfold.harness.axis import Axis, axis
from fourfold.harness.bars import Bars, history_plot, size_plot
from fourfold.harness.drawing import shorten, size_text, time_unit
from fourfold.harness.plots import Point, accuracy_plot, latency_plot
from fourfold.harness.result import Interval

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert('1')</script>\x00\x1b & \"x\""


def drawn(plot: str) -> ElementTree.Element:
    """Parse a plot, and check what every plot must have."""
    root = ElementTree.fromstring(plot)
    assert root.tag == f"{SVG}svg"
    assert [e.tag for e in root[:2]] == [f"{SVG}title", f"{SVG}desc"]
    assert all(e.text for e in root[:2])
    assert "nan" not in plot
    assert "inf" not in plot.replace("infinite", "")
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]


def width_and_height(root):
    return tuple(float(v) for v in root.attrib["viewBox"].split()[2:])


finite = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(st.lists(finite, min_size=1, max_size=9), st.booleans())
def test_every_value_and_a_few_ticks_are_inside_the_axis(values, log):
    scale = axis(values, 10, 410, log=log)
    assert all(10 <= scale(v) <= 410 for v in values)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assume(scale.high - scale.low > 1e-9 * max(abs(scale.high), abs(scale.low)))
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 8
    assert list(ticks) == sorted(set(ticks))


@given(st.floats(1e-3, 1e3), st.floats(1.05, 1e6))
def test_a_logarithmic_axis_has_ticks_of_one_digit(low, ratio):
    ticks = axis([low, low * ratio], 0, 100, log=True).ticks()
    assert 2 <= len(ticks) <= 8
    assert ticks[0] < ticks[-1]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, (0, 20, 40, 60, 80, 100)), (1.3, 2.2, (1.4, 1.6, 1.8, 2.0, 2.2)), (-3, 7, (-2, 0, 2, 4, 6))],
)
def test_linear_ticks_are_nice_numbers(low, high, expected):
    assert Axis(low, high, 0, 1).ticks() == pytest.approx(expected)


def test_equal_ratios_are_equally_far_on_a_logarithmic_axis():
    scale = Axis(1, 100, 0, 100, log=True)
    assert [scale(v) for v in (1, 10, 100)] == pytest.approx([0, 50, 100])


def test_an_axis_of_one_value_and_of_none_still_has_a_width():
    for values in ([5.0], [0.0], [-2.0, -2.0], [], [math.nan, math.inf]):
        scale = axis(values, 0, 100)
        assert scale.low < scale.high
        assert len(scale.ticks()) >= 2


def test_percent_axes_stop_at_their_limits():
    scale = axis([0.0, 100.0], 0, 100, limits=(0, 100))
    assert (scale.low, scale.high) == (0, 100)


@pytest.mark.parametrize(("ms", "unit"), [(0.02, "µs"), (3.0, "ms"), (60_000.0, "s")])
def test_units_keep_numbers_short(ms, unit):
    factor, name = time_unit(ms)
    assert name == unit
    assert 1 <= ms * factor < 1000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1400, "1.40 kB"),
        (402_113, "402 kB"),
        (999_600, "1.00 MB"),
        (3e9, "3.00 GB"),
    ],
)
def test_sizes_have_three_digits(count, text):
    assert size_text(count) == text


def test_long_names_lose_their_middle():
    assert shorten("short", 100) == "short"
    cut = shorten("a_very_long_model_name@some-device-int8", 120)
    assert cut.startswith("a_very")
    assert cut.endswith("int8")
    assert "…" in cut


def samples(seed, median=2e6, n=500):
    return (median * (1 + np.random.default_rng(seed).gamma(2, 0.02, n))).astype(np.int64)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_every_bundle_has_a_row_with_its_median(count):
    rows = {f"model{i}@d-fp32": samples(i) for i in range(count)}
    medians = {name: Interval(2.08, 2.05, 2.11) for name in rows}
    root = drawn(latency_plot(rows, medians, {}))
    assert sum("2.08 ms" in t for t in texts(root)) == count
    assert len(root.findall(f".//{SVG}path")) == count
    assert any("latency, ms" in t for t in texts(root))


def test_identical_timings_are_drawn():
    drawn(latency_plot({"a": np.full(40, 1_000_000)}, {"a": Interval(1, 1, 1)}, {}))
    drawn(latency_plot({"a": np.array([1_000_000])}, {}, {}))
    drawn(latency_plot({"a": np.zeros(5, dtype=np.int64)}, {}, {}))


def test_far_apart_bundles_get_a_logarithmic_axis():
    near = latency_plot({"a": samples(0), "b": samples(1, 3e6)}, {}, {})
    far = latency_plot({"a": samples(0), "b": samples(1, 90e6)}, {}, {})
    assert "log scale" not in near
    assert "log scale" in far


def test_an_outlier_does_not_flatten_the_rest_and_is_counted():
    timed = samples(0)
    timed[7] *= 400
    root = drawn(latency_plot({"a": timed}, {}, {}))
    *ticks, _, _, note = texts(root)
    assert max(float(t) for t in ticks) < 3
    assert note in [f"{n} of 500 off the axis" for n in range(1, 6)]


def test_the_ridge_peaks_where_the_samples_are():
    two = np.concatenate((np.full(300, 1_000_000), np.full(100, 2_000_000)))
    root = drawn(latency_plot({"a": two}, {}, {}))
    path = root.find(f".//{SVG}path")
    assert path is not None
    points = [
        tuple(map(float, p.strip("LMZ").split())) for p in path.attrib["d"].replace("L", "|L").split("|")
    ]
    highest = min(points, key=lambda p: p[1])
    assert highest[0] < 60


def point(name, i, accuracy=0.9, ms=2.0):
    return Point(
        name, i, Interval(ms, ms * 0.98, ms * 1.02), Interval(accuracy, accuracy - 0.01, accuracy + 0.01)
    )


def test_labels_do_not_overlap_and_stay_inside():
    points = [point(f"model_number_{i}@device-int8", i) for i in range(14)]
    root = drawn(accuracy_plot(points))
    width, height = width_and_height(root)
    names = [e for e in root.iter(f"{SVG}text") if "model_number" in "".join(e.itertext())]
    places = sorted(float(e.attrib["y"]) for e in names)
    assert len(places) == 14
    assert all(b - a >= 14 for a, b in pairwise(places))
    assert 0 < places[0] < places[-1] < height
    assert all(float(e.attrib["x"]) < width for e in names)


def test_a_better_bundle_is_higher_and_a_slower_one_further_right():
    root = drawn(accuracy_plot([point("low", 0, 0.8, 1.0), point("high", 1, 0.9, 3.0)]))
    low, high = [c for c in root.iter(f"{SVG}circle") if c.attrib["r"] == "4.5"]
    assert float(high.attrib["cy"]) < float(low.attrib["cy"])
    assert float(high.attrib["cx"]) > float(low.attrib["cx"])


def test_bars_are_as_long_as_their_sizes():
    root = drawn(size_plot([Bars("a", 0, 1000, 2000), Bars("b", 1, 500, 0)]))
    widths = [float(r.attrib["width"]) for r in root.iter(f"{SVG}rect")]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)
    assert widths[0] == pytest.approx(2 * widths[2], rel=0.01)
    assert widths[3] == 0


def test_the_history_says_what_changed_and_by_how_much():
    steps = (
        Step("fold", "", 43),
        Step("to_onnx", "", 0, 412),
        Step("gelu", "", 9, 372),
        Step("none", "", 0, 372),
    )
    root = drawn(history_plot(steps))
    said = texts(root)
    assert "43 changed, no graph yet" in said
    assert "412 nodes" in said
    assert "9 changed, 372 nodes (-40)" in said
    assert "nothing changed, 372 nodes" in said
    assert len(root.findall(f".//{SVG}rect")) == 3


def test_nothing_to_draw_gives_no_plot():
    assert [latency_plot({}, {}, {}), accuracy_plot([]), size_plot([]), history_plot([])] == [""] * 4
    assert latency_plot({"a": np.array([], dtype=np.int64)}, {}, {}) == ""


def test_hostile_names_stay_text():
    step = Step(HOSTILE, "", 1, 10)
    for plot in (
        latency_plot({HOSTILE: samples(0)}, {}, {}),
        accuracy_plot([point(HOSTILE, 0)]),
        size_plot([Bars(HOSTILE, 0, 10, 10)]),
        history_plot([step]),
    ):
        assert not list(drawn(plot).iter(f"{SVG}script"))
        assert "<script" not in plot


def test_values_that_are_no_numbers_leave_valid_shapes():
    odd = Interval(math.nan, -math.inf, math.inf)
    drawn(accuracy_plot([point("fine", 0), Point("odd", 1, Interval(2.0, math.nan, 3.0), odd)]))
