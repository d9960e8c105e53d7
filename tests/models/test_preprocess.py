"""Pictures become inputs: checked by hand where that is possible, by timm's own transform elsewhere."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fourfold.errors import UnavailableError, UsageError
from fourfold.models.preprocess import prepare, prepare_batch
from fourfold.models.spec import Preprocess

GREY = Preprocess(size=(28, 28), mean=(0.2860,), std=(0.3530,), mode="L", resize="exact")
COLOUR = Preprocess(size=(20, 24), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), mode="RGB")


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> Image.Image:
    small = Image.fromarray(pixels(9, 7, 3))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def test_exact_grey_picture_is_only_normalised() -> None:
    image = pixels(28, 28)
    ready = prepare(Image.fromarray(image), GREY)
    assert ready.shape == (1, 28, 28)
    assert ready.dtype == np.float32
    assert ready.flags.c_contiguous
    np.testing.assert_allclose(ready[0], (image / 255 - 0.2860) / 0.3530, rtol=0, atol=1e-6)


def test_array_and_picture_give_the_same() -> None:
    image = pixels(31, 43, 3)
    np.testing.assert_array_equal(prepare(image, COLOUR), prepare(Image.fromarray(image), COLOUR))


def test_batch_is_its_pictures() -> None:
    grey, colour = pixels(3, 28, 28), pixels(2, 31, 43, 3)
    assert prepare_batch(grey, GREY).shape == (3, 1, 28, 28)
    np.testing.assert_array_equal(prepare_batch(colour, COLOUR)[1], prepare(colour[1], COLOUR))


def test_channels_are_normalised_one_by_one() -> None:
    image = pixels(20, 24, 3)
    stretch = Preprocess(size=(20, 24), mean=COLOUR.mean, std=COLOUR.std, mode="RGB", resize="stretch")
    expected = ((image / 255 - np.array(COLOUR.mean)) / np.array(COLOUR.std)).transpose(2, 0, 1)
    np.testing.assert_allclose(prepare(image, stretch), expected, rtol=0, atol=1e-5)


def test_one_mean_serves_all_channels() -> None:
    one = Preprocess(size=(4, 4), mean=(0.5,), std=(0.25,), mode="RGB", resize="exact")
    image = pixels(4, 4, 3)
    np.testing.assert_allclose(
        prepare(image, one), ((image / 255 - 0.5) / 0.25).transpose(2, 0, 1), atol=1e-5
    )


def test_stretch_ignores_the_aspect() -> None:
    stretch = Preprocess(size=(20, 24), mean=(0,), std=(1,), mode="RGB", resize="stretch")
    assert prepare(smooth(100, 10), stretch).shape == (3, 20, 24)


def test_crop_takes_the_middle() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    crop = Preprocess(size=(50, 50), mean=(0,), std=(1,), mode="RGB", crop=1.0, interpolation="nearest")
    assert prepare(image, crop).min() == 1


@pytest.mark.parametrize("picture", [(300, 200), (200, 300), (224, 224), (60, 333)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_equals_timms_transform(picture: tuple[int, int], interpolation: str) -> None:
    create_transform = timm_transform()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = Preprocess(size=(64, 64), mean=mean, std=std, mode="RGB", crop=0.875, interpolation=interpolation)
    theirs = create_transform(
        input_size=(3, 64, 64), mean=mean, std=std, crop_pct=0.875, interpolation=interpolation
    )
    image = smooth(*picture)
    np.testing.assert_allclose(prepare(image, ours), theirs(image).numpy(), rtol=0, atol=1e-5)


def timm_transform():
    from fourfold.models.timm_models import timm_spec

    try:
        timm_spec("resnet18", None)
    except UnavailableError as error:
        pytest.skip(str(error))
    from timm.data import create_transform

    return create_transform


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "RGB", "L"])
def test_any_eight_bit_picture_is_converted(mode: str) -> None:
    image = smooth(28, 28).convert(mode)
    np.testing.assert_array_equal(prepare(image, GREY), prepare(image.convert("L"), GREY))


@pytest.mark.parametrize(
    "image", [Image.new("I", (28, 28)), Image.new("F", (28, 28)), Image.new("I;16", (28, 28))]
)
def test_deep_picture_is_refused(image: Image.Image) -> None:
    with pytest.raises(UsageError, match="8 bits"):
        prepare(image, GREY)


@pytest.mark.parametrize("shape", [(27, 28), (28, 29)])
def test_exact_refuses_another_size(shape: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"expected a picture of 28x28 pixels, got {shape[0]}x{shape[1]}"):
        prepare(pixels(*shape), GREY)


@pytest.mark.parametrize("image", [np.zeros((28, 28), np.float32), pixels(28, 28, 4), pixels(28)], ids=str)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8 pixels"):
        prepare(image, GREY)


def test_undeclared_size_is_refused() -> None:
    with pytest.raises(UsageError, match="call fitted"):
        prepare(pixels(4, 4), Preprocess(mean=(0,), std=(1,)))


def test_no_torch_is_needed() -> None:
    code = "import fourfold.models.preprocess, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
