"""The scheduler is never worse than the best pure scheme, and counts what the literature counts (P4, V13)."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourfold.runtimes.optical4f.claims import RESIDUAL_CIFAR100, full_tiles, mirror_rate
from fourfold.runtimes.optical4f.codec import from_json, to_json
from fourfold.runtimes.optical4f.light import electrons, light_per_kernel
from fourfold.runtimes.optical4f.lower import lower_conv
from fourfold.runtimes.optical4f.presets import get_system
from fourfold.runtimes.optical4f.schedule import Plan, Work, best_layout, plan, pure_passes, total_frames
from fourfold.runtimes.optical4f.tiling import Axis

PLANE = (1080, 1920)
SYSTEM = get_system("lcos-pn")
SIDES = [32] * 5 + [16] * 4 + [8] * 4 + [4] * 4
"""Of the residual network's maps, behind each convolution."""


def residual(batch: int) -> list[Work]:
    """The 17 convolutions of FatNet's baseline."""
    return [
        Work(f"conv{i}", 1, batch, c, m, Axis(n, 3, 1, 1), Axis(n, 3, 1, 1))
        for i, ((c, m), n) in enumerate(zip(RESIDUAL_CIFAR100, SIDES, strict=True))
    ]


FAT = (
    (32, 7, 3, 64),
    *[(16, 3, 64, 64)] * 4,
    (16, 4, 64, 82),
    *[(10, 5, 82, 82)] * 3,
    (10, 7, 82, 78),
    *[(10, 10, 78, 78)] * 3,
    (10, 10, 78, 151),
    (10, 10, 151, 155),
    (10, 10, 155, 151),
    (10, 10, 151, 155),
    (10, 10, 155, 1),
)
"""Map, kernel, input and output channels of FatNet's convolutions."""


def any_light(kernels: int, channels: int) -> bool:
    return True


work_of_any_size = st.builds(
    Work,
    st.just("w"),
    st.sampled_from([1, 1, 3, 40]),
    st.integers(1, 300),
    st.integers(1, 200),
    st.integers(1, 200),
    st.builds(lambda n, k: Axis(n, k, k // 2, k // 2), st.integers(2, 40), st.integers(1, 7)),
    st.builds(lambda n, k: Axis(n, k, k // 2, k // 2), st.integers(2, 40), st.integers(1, 7)),
)


@settings(max_examples=60, deadline=None)
@given(work=work_of_any_size, height=st.integers(60, 300), width=st.integers(60, 400))
def test_never_worse_than_the_best_pure_scheme(work: Work, height: int, width: int) -> None:
    layout = best_layout(work, height, width, any_light)
    assert layout is not None
    assert layout.fits(height, width)
    light = electrons(SYSTEM, layout.on_mask, layout.channels)
    assert Plan(work, layout, 1, 1, light, True).passes <= min(pure_passes(work, height, width).values())


@settings(max_examples=30, deadline=None)
@given(work=work_of_any_size, power=st.floats(0.001, 500))
def test_no_layout_is_dimmer_than_the_system_wants(work: Work, power: float) -> None:
    dim = replace(SYSTEM, laser=replace(SYSTEM.laser, power_mw=power))
    chosen = plan(work, dim)
    if chosen.bright:
        assert chosen.electrons >= dim.wanted_electrons
    else:
        assert chosen.layout.on_mask == 1


def test_less_light_takes_more_frames() -> None:
    works = residual(1)
    frames = [
        total_frames(plan(w, replace(SYSTEM, laser=replace(SYSTEM.laser, power_mw=mw))) for w in works)
        for mw in (500, 5, 0.05)
    ]
    assert frames[0] < frames[1] < frames[2]


def test_the_pure_schemes_of_the_residual_network() -> None:
    pure = [pure_passes(work, *PLANE) for work in residual(1)]
    assert {kind: 2 * sum(p[kind] for p in pure) for kind in ("input", "kernel", "channel")} == {
        "input": 2_441_600,
        "kernel": 6_790,
        "channel": 7_808,
    }


@pytest.mark.parametrize(
    ("batch", "residual_rate", "fat_rate"), [(64, 214, 350), (3136, 574, 476)], ids=["64", "3136"]
)
def test_throughputs_of_full_tiles_packed_by_area(batch: int, residual_rate: int, fat_rate: int) -> None:
    """Tiles at the full pitch n + k - 1, pictures of a batch split over frames.

    Ours are higher: neighbours share the gap of n + floor(k/2), and never lower for keeping pictures whole.
    """
    maps = [32, *[16] * 5, *[8] * 4, *[4] * 4, *[2] * 3]
    deep = [(n, 7 if c == 3 else 3, c, m) for (c, m), n in zip(RESIDUAL_CIFAR100, maps, strict=True)]
    assert sum(c * m for _, _, c, m in FAT) == 148_792
    for layers, stated in ((deep, residual_rate), (FAT, fat_rate)):
        frames = sum(2 * c * -(-m * batch // full_tiles(*PLANE, n, k)) for n, k, c, m in layers)
        assert round(batch * mirror_rate()[1] / frames) == stated
        works = [Work("w", 1, batch, c, m, *[Axis(n, k, (k - 1) // 2, k // 2)] * 2) for n, k, c, m in layers]
        assert 2 * sum(pure_passes(work, *PLANE)["kernel"] for work in works) <= frames


def test_the_residual_network_at_one_sample() -> None:
    assert total_frames(plan(work, SYSTEM) for work in residual(1)) <= 100


@pytest.mark.parametrize(("batch", "tokens"), [(1, 65), (141, 65), (142, 65), (3, 64)])
def test_shared_kernels_take_one_pass_each_per_plane_of_tokens(batch: int, tokens: int) -> None:
    weights = np.concatenate([np.random.default_rng(0).normal(size=(1, 1, 8, 8))] * tokens)
    layer, _ = lower_conv(
        "share", weights, groups=tokens, strides=(1, 1), dilations=(1, 1), pads=(7, 7, 7, 7)
    )
    work = Work.of(layer, layer.pictures(batch), 8, 8)
    assert pure_passes(work, *PLANE)["input"] == -(-batch * tokens // 9216)
    assert plan(work, SYSTEM).passes == -(-batch * tokens // 9216)


def test_groups_that_share_nothing_lie_on_a_diagonal() -> None:
    work = Work("depthwise", 384, 1, 1, 1, Axis(7, 3, 1, 1), Axis(7, 3, 1, 1))
    assert plan(work, SYSTEM).passes < 10
    assert min(pure_passes(work, *PLANE).values()) == 384


def test_a_tile_larger_than_the_plane_has_no_layout() -> None:
    assert best_layout(Work("w", 1, 1, 1, 1, Axis(9, 3), Axis(9, 3)), 8, 20, any_light) is None


@pytest.mark.parametrize("kernels", [1, 4, 16, 64, 256])
def test_light_falls_with_the_kernels_on_a_mask_as_measured(kernels: int) -> None:
    side, found = round(kernels**0.5), list[float]()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        response = np.zeros((side, 256 // side, side, 256 // side))
        response[:, :3, :, :3] = rng.normal(size=(side, 3, side, 3))
        power = np.abs(np.fft.fft2(response.reshape(256, 256))) ** 2
        found.append(power.mean() / power.max() / kernels)
    assert light_per_kernel(kernels) == pytest.approx(np.mean(found), rel=0.25)


@pytest.mark.parametrize(
    ("down", "across"), [(32, 32), (64, 64), (128, 128), (256, 256), (360, 640)], ids=lambda n: str(n)
)
def test_light_of_a_crowded_plane_is_as_simulated_and_near_speckle(down: int, across: int) -> None:
    kernels, found = down * across, list[float]()
    rows, columns = PLANE[0] // down, PLANE[1] // across
    for seed in range(3):
        response = np.zeros((down, rows, across, columns))
        response[:, :3, :, :3] = np.random.default_rng(seed).normal(size=(down, 3, across, 3))
        power = np.abs(np.fft.rfft2(response.reshape(down * rows, across * columns), PLANE)) ** 2
        found.append(power.mean() / power.max() / kernels)
    assert light_per_kernel(kernels) == pytest.approx(np.mean(found), rel=0.15)
    assert light_per_kernel(kernels) == pytest.approx(1 / (kernels * np.log(np.prod(PLANE))), rel=0.25)


def test_no_schedule_of_the_benchmark_leaves_the_simulated_light() -> None:
    masks = [plan(work, SYSTEM).layout.on_mask for work in residual(1)]
    assert 256 < max(masks) <= 230_400


def test_light_falls_from_kernel_to_kernel() -> None:
    values = [light_per_kernel(n) for n in range(1, 20_000)]
    assert all(a > b for a, b in pairwise(values))


def test_a_plan_survives_json() -> None:
    chosen = plan(residual(3)[4], SYSTEM)
    assert from_json(Plan, to_json(chosen)) == chosen
