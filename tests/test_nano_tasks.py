"""What the small networks learn: pasted items and their masks, drawn noise and its variance."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fourfold.models.registry import get_spec

Benchmark = Callable[[str], ModuleType]


def test_pasted_item_covers_its_mask_and_nothing_else(benchmark: Benchmark) -> None:
    rng = np.random.default_rng(0)
    items = rng.integers(1, 256, (5, 6, 4)).astype(np.uint8) * (rng.random((5, 6, 4)) < 0.7)
    photos = rng.integers(0, 256, (3, 9, 8, 3)).astype(np.uint8)
    pictures, maps = benchmark("pasted_items").pasted(items.astype(np.uint8), np.arange(5), photos, seed=4)
    masks = maps > 0
    assert [set(np.unique(where)) for where in maps] == [{0, label + 1} for label in range(5)]
    under = photos[[0, 1, 2, 0, 1]]
    assert np.array_equal(pictures[masks == 0], under[masks == 0])
    assert [int((mask > 0).sum()) for mask in masks] == [int((item > 0).sum()) for item in items]
    for picture, mask, item in zip(pictures, masks, items, strict=True):
        shown = picture[mask > 0].astype(float)
        assert np.all(shown.max(axis=1) <= item[item > 0] + 0.5), "an item only gets darker"
        assert np.ptp(shown[:, 0] / item[item > 0]) < 0.5, "and all of it has one colour"


def test_places_and_colours_differ_but_a_seed_repeats_them(benchmark: Benchmark) -> None:
    items, photos = np.full((40, 2, 2), 200, np.uint8), np.zeros((1, 5, 5, 3), np.uint8)
    pasted = benchmark("pasted_items").pasted
    pictures, maps = pasted(items, np.zeros(40, int), photos, seed=1)
    assert np.array_equal(pictures, pasted(items, np.zeros(40, int), photos, seed=1)[0])
    assert len(np.unique(maps, axis=0)) > 10
    assert len(np.unique(pictures.max(axis=(1, 2)), axis=0)) == 40


def test_union_of_each_class_is_counted_over_all_pixels(benchmark: Benchmark) -> None:
    mask, generator = benchmark("nano_mask"), torch.Generator().manual_seed(0)
    found, right = (torch.randint(4, (6, 9, 9), generator=generator) for _ in range(2))
    shares = mask.unions(mask.confusion(found, right, 5))
    for k in range(4):
        both, either = ((found == k) & (right == k)).sum(), ((found == k) | (right == k)).sum()
        assert shares[k] == pytest.approx(float(both / either))
    assert shares[4] == 0


@pytest.mark.parametrize(("task", "figure"), [("Mask", "iou_4"), ("Regions", "mean_iou_4")])
def test_right_answers_score_one(benchmark: Benchmark, task: str, figure: str) -> None:
    maps = torch.arange(44).reshape(4, 1, 1, 11).expand(-1, 1, 3, -1) % 11
    pixels = torch.cat([maps.expand(-1, 3, -1, -1), maps], dim=1).to(torch.uint8)
    test = benchmark("nano_data").Images(pixels, torch.zeros(4))

    class Answers(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            one = (maps > 0).float()
            return one if task == "Mask" else torch.nn.functional.one_hot(maps[:, 0], 11).movedim(-1, 1)

    learned = getattr(benchmark("nano_mask"), task)()
    assert learned.scores(Answers(), test) == {figure: 1.0}
    given = learned.given(pixels, test.labels, 11, torch.Generator())
    assert torch.equal(given.target.reshape(4, 3, 11) > 0, maps[:, 0] > 0)


def test_file_that_is_not_one_of_pasted_items_is_refused(benchmark: Benchmark, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=np.zeros(3))
    (tmp_path / "b.npz").write_text("no archive")
    for name in ("a.npz", "b.npz", "missing.npz"):
        with pytest.raises(SystemExit, match=r"expected a file of pasted_items\.py"):
            benchmark("nano_mask").read_pasted(tmp_path / name)


def test_mask_moves_with_its_picture(benchmark: Benchmark) -> None:
    task = benchmark("nano_mask").Mask()
    pixels = torch.zeros(2, 4, 6, 6, dtype=torch.uint8)
    pixels[:, :, 2:4, 1:3] = 255
    moved = benchmark("nano_data").augmented(pixels, 2, "reflect", torch.Generator().manual_seed(0))
    assert not torch.equal(moved, pixels)
    given = task.given(moved, torch.zeros(2), 6, torch.Generator())
    bright = (given.inputs[0] > 1).all(dim=1, keepdim=True)
    assert torch.equal(bright, given.target > 0)
    assert given.target.sum() > 0


@pytest.mark.parametrize("t", [0, 1, 2, 500, 999])
def test_divergence_is_that_of_two_normal_distributions(benchmark: Benchmark, t: int) -> None:
    noise = benchmark("nano_noise")
    beta = np.linspace(1e-4, 0.02, 1000)
    left = np.cumprod(1 - beta)
    at = max(t, 1)
    bound = beta[at] * (1 - left[at - 1]) / (1 - left[at])
    generator = torch.Generator().manual_seed(t)
    x, e, guess, v = (torch.randn(3, 4, 2, 2, generator=generator, dtype=torch.float64) for _ in range(4))

    def mean(noise: torch.Tensor) -> torch.Tensor:
        return (x - beta[t] / np.sqrt(1 - left[t]) * noise) / np.sqrt(1 - beta[t])

    share = (v + 1) / 2
    deviation = torch.exp(0.5 * (share * np.log(beta[t]) + (1 - share) * np.log(bound)))
    q = Normal(mean(e), torch.full_like(x, np.sqrt(bound)))
    expected = kl_divergence(q, Normal(mean(guess), deviation))
    found = noise.divergence((guess - e).square(), v, torch.full((3,), t))
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)


def test_noisy_latent_has_the_shares_of_picture_and_noise(benchmark: Benchmark) -> None:
    noise = benchmark("nano_noise")
    pixels = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(64) % 10
    given = noise.Noise().given(pixels, labels, 28, torch.Generator().manual_seed(0))
    noisy, t, shown = given.inputs
    drawn = given.target[:, :4].double()
    left = torch.tensor(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))[t.long()].view(-1, 1, 1, 1)
    back = (noisy.double() - (1 - left).sqrt() * drawn) / left.sqrt()
    late = t > 900  # where a little noise is most of the picture
    torch.testing.assert_close(back[~late], noise.latents(pixels).double()[~late], rtol=0, atol=1e-4)
    assert torch.equal(given.target[:, 4, 0, 0], t)
    hidden = shown == noise.NO_CLASS
    assert 0 < hidden.sum() < 20
    assert torch.equal(shown[~hidden], labels[~hidden])


def test_score_of_the_noise_is_one_for_no_answer_and_zero_for_the_right_one(benchmark: Benchmark) -> None:
    noise = benchmark("nano_noise")
    pixels = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    test = benchmark("nano_data").Images(pixels, torch.arange(8))
    right = noise.tested(test).target[:, :4]

    class Answers(torch.nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, *_: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.share * right, torch.ones_like(right)], dim=1)

    for share in (0.0, 0.5, 1.0):
        left = noise.Noise().scores(Answers(share), test)["noise_left_8"]
        assert left == pytest.approx((1 - share) ** 2)


def test_network_of_another_set_is_refused(benchmark: Benchmark) -> None:
    with pytest.raises(SystemExit, match="expected a network for Fashion-MNIST or CIFAR-10, got rsmamba_b"):
        _ = benchmark("nano_tasks").Classes(get_spec("rsmamba_b")).data
