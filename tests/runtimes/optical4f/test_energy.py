"""Costs and claims: the formulas, and the published numbers (V13, P6)."""

from dataclasses import replace

import pytest

from fourfold.runtimes.optical4f.baseline import count, fastest_ms
from fourfold.runtimes.optical4f.claims import RESIDUAL_CIFAR100, Claim, convolutions, mirror_rate
from fourfold.runtimes.optical4f.energy import (
    amdahl,
    break_even_kernel,
    cost,
    fft_flops_per_pixel,
    frame_us,
    optics_seconds,
    reality,
)
from fourfold.runtimes.optical4f.lower import Layer
from fourfold.runtimes.optical4f.presets import get_system
from fourfold.runtimes.optical4f.schedule import Work, plan
from fourfold.runtimes.optical4f.tiling import Axis

SYSTEM = get_system("lcos-pn")
WORK = Work("w", 1, 4, 3, 5, Axis(32, 3, 1, 1), Axis(32, 3, 1, 1))


def test_fatnet_counts_8_205_times_fewer_convolutions() -> None:
    assert convolutions(RESIDUAL_CIFAR100) == 1_220_800
    assert round(1_220_800 / 148_792, 3) == 8.205


def test_the_mirror_device_loads_23148_times_a_second() -> None:
    micros, hertz = mirror_rate()
    assert micros == pytest.approx(43.2)
    assert int(hertz) == 23_148


def test_two_megahertz_of_4k_is_221_times_the_fastest_camera() -> None:
    asked = reality(3840, 2160, 2e6, 8)
    assert asked.pixels_per_second == pytest.approx(16.6e12, rel=1e-3)
    assert round(asked.times_fastest_camera) == 221
    assert round(asked.bits_per_second / 1e12) == 133
    assert "221 times the fastest commercial camera" in asked.sentence


def test_a_pixel_of_1_3_nanojoule_needs_kernels_beyond_30() -> None:
    assert break_even_kernel(1.3e-9, 1.4e-12) == 31
    assert break_even_kernel(5e-12, 1.4e-12) == 2
    assert fft_flops_per_pixel(256) == 80


def test_amdahl_binds() -> None:
    assert amdahl(0.5, 1e12) == pytest.approx(2)
    assert amdahl(1.0, 7) == pytest.approx(7)


def test_a_claim_is_its_inputs() -> None:
    claim = Claim(digital_s=2.0, batch=100, frames=1000, frames_per_second=2000)
    assert claim.speed_up == pytest.approx(4)
    assert claim.samples_per_second == pytest.approx(200)
    assert replace(claim, planes=3).speed_up == pytest.approx(12)
    assert replace(claim, digital_w=300, optical_w=150).energy_ratio == pytest.approx(8)
    assert claim.energy_ratio == 0
    assert claim.tornado()["frames"] == (8.0, 2.0)
    assert claim.tornado()["digital_s"] == (2.0, 8.0)


def test_frames_under_one_mask_take_the_slower_of_input_and_camera() -> None:
    chosen = plan(WORK, SYSTEM)
    assert frame_us(SYSTEM) == 714
    assert optics_seconds(chosen, SYSTEM) == pytest.approx(chosen.frames * 714e-6)
    slow = replace(SYSTEM, mask=replace(SYSTEM.mask, frame_us=5000))
    expected = chosen.mask_loads * 5000e-6 + (chosen.frames - chosen.mask_loads) * 714e-6
    assert optics_seconds(chosen, slow) == pytest.approx(expected)


def test_the_cost_of_two_layers_is_the_sum_of_both() -> None:
    chosen = plan(WORK, SYSTEM)
    one, two = (cost([chosen] * n, SYSTEM, electronic_macs=1e6 * n) for n in (1, 2))
    assert two.energy_j == pytest.approx(2 * one.energy_j)
    assert two.latency_s == pytest.approx(2 * one.latency_s)
    assert one.latency_s == pytest.approx(one.optics_s + one.link_s + one.electronics_s)
    assert one.stage_s == max(one.optics_s, one.link_s, one.electronics_s)
    pixels = chosen.frames * SYSTEM.width * SYSTEM.height
    assert one.converters_j == pytest.approx(pixels * 10e-12)


def test_an_fft_costs_the_same_for_every_kernel_and_direct_does_not() -> None:
    def layer(k: int) -> Layer:
        return Layer("l", "conv2d", 1, 4, 8, (k, k), k * k, (k // 2, k // 2, k // 2, k // 2))

    three, seven = count(layer(3), 2, 24, 24), count(layer(7), 2, 24, 24)
    assert seven.direct_macs == pytest.approx(three.direct_macs * 49 / 9)
    assert seven.fft_flops == three.fft_flops


def test_a_call_is_timed_after_one_that_does_not_count() -> None:
    calls: list[int] = []
    assert fastest_ms(lambda: calls.append(1), seconds=0, least=3) >= 0
    assert len(calls) == 4
