"""Layers are set up on all samples, and exposed with the least error that the camera allows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourfold.export.artifact import Batches, Exported, Feed
from fourfold.runtimes.optical4f.build import build as compile_program
from fourfold.runtimes.optical4f.conditions import Conditions
from fourfold.runtimes.optical4f.energy import laser_joules
from fourfold.runtimes.optical4f.lower import Layer
from fourfold.runtimes.optical4f.passes import Optics, Setting
from fourfold.runtimes.optical4f.presets import get_system
from fourfold.runtimes.optical4f.program import Loaded, save
from fourfold.runtimes.optical4f.session import open_simulation
from fourfold.runtimes.optical4f.set_up import HEADROOM, SHARES, Ready, set_up
from fourfold.runtimes.optical4f.vary import Variation

Build = Callable[..., Exported]

LAYER = Layer("layer", "conv2d", 1, 3, 4, (3, 3), 9, (1, 1, 1, 1))
SETTING = Setting(3, together=True, electrons=20_000.0)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spiky(count: int, seed: int) -> torch.Tensor:
    """Pictures in which one pixel in a hundred is ten times as bright as the others."""
    x = normal(count, 3, 12, 12, seed=seed)
    return torch.where(normal(count, 3, 12, 12, seed=seed + 1) > 2.3, 10 * x, x)


def optics(scheme: str = "homodyne", bits: int = 4, setting: Setting = SETTING) -> Optics:
    variation = Variation(scheme, bits)
    system = variation.system(get_system("lcos-homodyne"))
    return Optics(LAYER, normal(1, 4, 3, 3, 3, seed=1), setting, system, variation.adjust)


def error(layer: Optics, ready: Ready, x: torch.Tensor, seed: int) -> float:
    exact = layer.having(ready.setting, ideal=True).run(x, None, None)
    answer = layer.having(ready.setting).run(x, ready.levels, torch.Generator().manual_seed(seed))
    return float((answer - exact).square().sum())


@pytest.mark.parametrize("scheme", ["homodyne", "pseudo-negative", "incoherent"])
def test_few_bits_are_spent_on_most_answers_not_on_the_largest(scheme: str) -> None:
    layer = optics(scheme)
    (ready,) = set_up([layer], lambda: [[spiky(8, seed=3)]])
    assert ready.exposure > 1
    share = ready.exposure ** (-0.5 if layer.coherent else -1)
    whole = replace(ready, levels=ready.levels / share)
    fresh = spiky(8, seed=30)
    assert error(layer, ready, fresh, 5) < 0.8 * error(layer, whole, fresh, 5)


def test_no_exposure_that_was_tried_is_much_better() -> None:
    layer, x = optics("pseudo-negative"), spiky(8, seed=3)
    (ready,) = set_up([layer], lambda: [[x]])
    whole = ready.levels * ready.exposure**0.5
    errors = [error(layer, replace(ready, levels=whole * share), x, 0) for share in SHARES]
    assert error(layer, ready, x, 0) <= 1.03 * min(errors)


def test_all_samples_count_and_their_batches_do_not() -> None:
    x = normal(24, 3, 12, 12, seed=3)
    x[20] *= 3
    (whole,) = set_up([optics()], lambda: [[x]])
    (parts,) = set_up([optics()], lambda: [[part] for part in (x[:8], x[8:16], x[16:])])
    assert parts.setting.peak == pytest.approx(HEADROOM * float(x.abs().max()))
    whole_range, parts_range = (one.levels * one.exposure**0.5 for one in (whole, parts))
    torch.testing.assert_close(whole_range, parts_range, rtol=1e-4, atol=0)


def test_a_weak_laser_fills_less_of_the_camera() -> None:
    x = spiky(8, seed=3)
    layer = optics(setting=replace(SETTING, available=25_000.0))
    (ready,) = set_up([layer], lambda: [[x]])
    assert ready.setting.electrons == pytest.approx(min(20_000.0, 25_000.0 / ready.exposure))
    (bright,) = set_up([optics()], lambda: [[x]])
    assert bright.setting.electrons == 20_000.0


def test_mathematics_needs_no_exposure() -> None:
    layer = Optics(LAYER, normal(1, 4, 3, 3, 3, seed=1), SETTING, get_system("ideal"))
    (ready,) = set_up([layer], lambda: [[spiky(2, seed=3)]])
    assert ready.exposure == 1


def test_inputs_of_nothing_are_no_error() -> None:
    (ready,) = set_up([optics()], lambda: [[torch.zeros(2, 3, 12, 12)]])
    answer = optics().having(ready.setting).run(torch.zeros(1, 3, 12, 12), ready.levels, None)
    assert torch.isfinite(answer).all()


NET = """<ir_version: 10, opset_import: ["": 20]>
net (float[{batch}, 3, 12, 12] x) => (float[{batch}, 4, 12, 12] y) {{
  y = Conv<pads = [1, 1, 1, 1]>(x, w)
}}"""


def samples(x: np.ndarray) -> Batches:
    def batches(size: int) -> Iterator[Feed]:
        for start in range(0, len(x), size):
            yield {"x": x[start : start + size]}

    return batches


@pytest.mark.parametrize("batch", ["batch", "5"])
def test_a_program_is_set_up_on_its_samples_not_on_the_golden_inputs(build: Build, batch: str) -> None:
    golden, seen = normal(5, 3, 12, 12, seed=8).numpy(), normal(12, 3, 12, 12, seed=9).numpy()
    seen[11] *= 4  # in a batch that is not full
    net = build(NET.format(batch=batch), {"x": golden}, w=normal(4, 3, 3, 3, seed=1).numpy())
    system = get_system("lcos-pn")
    without = compile_program(net, system, 8).program.steps[0]
    step = compile_program(replace(net, seen=samples(seen)), system, 8).program.steps[0]
    assert without.setting.peak == pytest.approx(HEADROOM * np.abs(golden).max())
    assert step.setting.peak == pytest.approx(HEADROOM * np.abs(seen).max())
    assert step.plan.exposure == step.single.exposure
    assert laser_joules(step.plan, system) == pytest.approx(
        laser_joules(replace(step.plan, exposure=1.0), system) * step.plan.exposure
    )


def test_a_program_is_set_up_for_the_camera_that_it_gets(build: Build, tmp_path: Path) -> None:
    """At 3 bits, a program exposed for 12 is worse than one exposed for 3."""
    x = spiky(8, seed=3).numpy()
    net = build(NET.format(batch="batch"), {"x": x}, w=normal(4, 3, 3, 3, seed=1).numpy())

    def coarse(known: Conditions) -> Conditions:
        return replace(known, adc_bits=3)

    def off(name: str, loaded: Loaded) -> float:
        folder = tmp_path / name
        folder.mkdir()
        with open_simulation(save(folder, *loaded), adjust=coarse) as session:
            answer = session.run({"x": x})["y"]
        with open_simulation(folder / "program.json", system=replace(system, ideal=True)) as session:
            exact = session.run({"x": x})["y"]
        return float(np.linalg.norm(answer - exact) / np.linalg.norm(exact))

    system = get_system("lcos-pn")
    fine = off("fine", compile_program(net, system, 8))
    assert off("coarse", compile_program(net, system, 8, coarse)) < 0.9 * fine
