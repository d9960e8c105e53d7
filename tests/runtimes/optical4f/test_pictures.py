"""Pictures say what the figures say."""

import xml.etree.ElementTree as ET

import pytest

from fourfold.runtimes.optical4f.pictures import Span, gantt, tornado

SVG = "{http://www.w3.org/2000/svg}"


def bars(picture: str) -> list[ET.Element]:
    return [r for r in ET.fromstring(picture).iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]


def test_spans_lie_in_their_time_and_row() -> None:
    spans = [
        Span("first & only <one>", "frames", 0.0, 1e-3, "12 frames"),
        Span("first & only <one>", "mask", 1e-3, 2e-3),
        Span("link", "link", 2e-3, 4e-3),
    ]
    found = bars(gantt("Schedule", spans))
    left = [float(bar.attrib["x"]) for bar in found]
    wide = [float(bar.attrib["width"]) for bar in found]
    assert left == sorted(left)
    assert wide[2] == pytest.approx(2 * wide[0], rel=0.01)
    assert left[1] == pytest.approx(left[0] + wide[0], rel=0.01)
    assert len({bar.attrib["y"] for bar in found}) == 2
    titles = [t.text for t in ET.fromstring(gantt("Schedule", spans)).iter(f"{SVG}title")]
    assert "first & only <one>: frames, 1 ms 12 frames" in titles


def test_a_factor_of_two_either_way_is_drawn_even() -> None:
    picture = tornado("Claim", 4.0, {"rate": (2.0, 8.0), "frames": (4.0, 2.0)}, unit="x")
    wide, half = (float(bar.attrib["width"]) for bar in bars(picture))
    assert wide == pytest.approx(2 * half, rel=0.01)
    assert "2 – 8x" in "".join(ET.fromstring(picture).itertext())


def test_nothing_to_show_is_drawn_all_the_same() -> None:
    assert len(bars(gantt("Nothing", [Span("a", "frames", 0.0, 0.0)]))) == 1
    assert len(bars(tornado("Flat", 1.0, {"a": (1.0, 1.0)}))) == 1
