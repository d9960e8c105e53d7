"""Presets are checked rows with sources."""

import pytest

from fourfold.errors import UsageError
from fourfold.runtimes.optical4f.device_conditions import conditions_of
from fourfold.runtimes.optical4f.presets import SCHEMES, get_system, parse, systems

TEXT = """
version: 1
modulators: [{name: m, title: m, kind: amplitude, width: 8, height: 6, pitch_um: 1, bits: 8, frame_us: 1,
  settle_us: 0, contrast: 10, efficiency: 1, power_w: 1, source: s, date: d, tag: K}]
cameras: [{name: c, title: c, width: 7, height: 9, frame_us: 2, bits: 8, full_well_e: 10, read_noise_e: 1,
  quantum_efficiency: 1, prnu: 0, power_w: 1, source: s, date: d, tag: K}]
lasers: [{name: l, title: l, wavelength_nm: 532, power_mw: 1, wall_plug: 1, source: s, date: d, tag: K}]
electronics: [{name: e, title: e, dac_pj: 1, adc_pj: 1, memory_pj_per_byte: 1, mac_pj: 1, flop_pj: 1,
  link_gbit_s: 1, mac_gops: 1, source: s, date: d, tag: K}]
systems: [{name: x, title: x, input: m, mask: m, camera: c, laser: l, electronics: e, scheme: homodyne,
  signs: pair, optics_efficiency: 1, wanted_electrons: 1, laser_rin: 0, phase_drift: 0, ideal: false}]
"""


def test_a_plane_is_what_its_parts_share() -> None:
    system = parse(TEXT)["x"]
    assert (system.width, system.height) == (7, 6)


def test_a_green_photon() -> None:
    assert get_system("lcos-pn").laser.photon_j == pytest.approx(3.73e-19, rel=2e-3)


def test_every_shipped_part_has_source_date_and_tag() -> None:
    for system in systems().values():
        assert system.scheme in SCHEMES
        for part in (system.input, system.mask, system.camera, system.laser, system.electronics):
            assert part.source
            assert part.date.count("-") == 2
            assert part.tag in ("S", "K", "H")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"expected a known optical preset, got 'lcos'; did you mean lcos-pn"
    ):
        get_system("lcos")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version: 1", "version: 2", "expected optical presets of version 1, got 2"),
        ("prnu: 0", "prn: 0", "optical preset c: expected a known key, got 'prn'; did you mean prnu"),
        (", wall_plug: 1", "", "optical preset l: expected the key 'wall_plug', got none"),
        ("camera: c", "camera: d", "expected a known part of an optical preset, got 'd'"),
        ("scheme: homodyne", "scheme: heterodyne", "did you mean homodyne"),
    ],
)
def test_a_wrong_row_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(TEXT.replace(old, new))


def test_conditions_are_those_of_the_parts() -> None:
    known = conditions_of(get_system("lcos-homodyne"))
    assert (known.input_bits, known.mask_bits, known.adc_bits, known.full_well) == (8, 8, 12, 20000)
    assert not conditions_of(get_system("ideal")).noisy
