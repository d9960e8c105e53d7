"""V9: geometries that sampled optics gets wrong are refused."""

from dataclasses import replace

import pytest
import torch

from fourfold.errors import UsageError
from fourfold.runtimes.optical4f.propagate import sampled
from fourfold.runtimes.optical4f.sampling import (
    Layout,
    aliased_propagator,
    fresnel_number,
    matched_focal_length,
    narrow_guard,
    traps,
)

FOCAL_LENGTH = matched_focal_length(532e-9, 256, 8e-6, 8e-6)
GOOD = Layout(532e-9, FOCAL_LENGTH, 256, 8e-6, 8e-6)


def test_the_focal_length_that_matches() -> None:
    assert pytest.approx(30.8e-3, rel=1e-3) == FOCAL_LENGTH


def test_two_points_per_pixel_are_enough() -> None:
    assert traps(GOOD) == ()
    assert sampled(GOOD).points == 4 * 256


@pytest.mark.parametrize(
    ("layout", "where", "words"),
    [
        (replace(GOOD, focal_length=32e-3), "mask", "take f = 0.0308 m"),
        (replace(GOOD, samples_per_pixel=1), "lens", "take 2 points per pixel"),
        (replace(GOOD, aperture=10e-3), "lens", "take 5 points per pixel"),
        (replace(GOOD, padding=0.0, samples_per_pixel=4), "propagator", "pad the grid more"),
    ],
)
def test_a_trap_is_refused(layout: Layout, where: str, words: str) -> None:
    found = {refusal.where: refusal.reason for refusal in traps(layout)}
    assert words in found[where]
    with pytest.raises(UsageError, match=words):
        sampled(layout)


def test_a_long_way_needs_more_room() -> None:
    assert aliased_propagator(GOOD, 3 * FOCAL_LENGTH) is not None
    assert aliased_propagator(replace(GOOD, padding=1.0), 3 * FOCAL_LENGTH) is None


def test_float32_has_no_phase_left() -> None:
    (refusal,) = traps(replace(GOOD, samples_per_pixel=2), torch.float16)[-1:]
    assert "compute them in float64" in refusal.reason
    far = replace(GOOD, focal_length=2.0, pixels=16620)
    assert [refusal.where for refusal in traps(far, torch.float32)] == ["precision"]
    assert traps(far, torch.float64) == ()


def test_tiles_that_reach_into_each_other() -> None:
    assert narrow_guard(6, 7) is None
    refusal = narrow_guard(5, 7)
    assert refusal is not None
    assert "at least 6 pixels, got 5" in refusal.reason
    assert narrow_guard(6, 7, spread=9) is not None


def test_fresnel_number() -> None:
    assert fresnel_number(1e-3, 500e-9, 2.0) == pytest.approx(1.0)
