"""From pictures to network inputs, with numpy and Pillow alone, so that a target needs no torch.

Axis letters: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UsageError
from .spec import Preprocess

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow clips these to 8 bits instead of scaling them, so they are refused."""


def prepare(image: Image.Image | NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """Turn one picture into one input.

    Args:
        image: A decoded picture, or uint8 pixels of shape (H, W) or (H, W, 3).
        preprocess: What to do with it; size and mode declared or `fitted`.

    Returns:
        (C, H, W) float32.

    Raises:
        UsageError: If size or mode is missing, an exact preprocessing meets another size, or the picture has
            more than 8 bits.
    """
    if preprocess.size is None or preprocess.mode is None:
        message = "expected a preprocessing with size and mode, got one without; call fitted(spec) first"
        raise UsageError(message)
    fitted = _fit(_picture(image).convert(preprocess.mode), preprocess.size, preprocess)
    pixels = np.asarray(fitted, np.float32).reshape(*preprocess.size, -1) / np.float32(255)
    normal = (pixels - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def prepare_batch(images: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """Turn one or more pictures of one size into one input.

    Args:
        images: uint8 pixels of shape (N, H, W) or (N, H, W, 3).
        preprocess: As for ``prepare``.

    Returns:
        (N, C, H, W) float32.

    Raises:
        UsageError: As ``prepare``.
    """
    return np.stack([prepare(image, preprocess) for image in images])


def pixels_of(array: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Undo the normalisation of one input: the nearest picture that has its size.

    Args:
        array: (C, H, W).
        preprocess: How pictures become such an input.

    Returns:
        Pixels of shape (H, W) or (H, W, 3).
    """
    mean, std = (np.array(part, np.float32).reshape(-1, 1, 1) for part in (preprocess.mean, preprocess.std))
    pixels = np.clip(np.rint((array * std + mean) * np.float32(255)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _picture(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    if isinstance(image, Image.Image):
        if image.mode in DEEP_MODES:
            message = f"expected a picture of 8 bits per channel, got mode {image.mode!r}; convert it first"
            raise UsageError(message)
        return image
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        got = f"{image.dtype} of shape {image.shape}"
        message = f"expected uint8 pixels of shape (H, W) or (H, W, 3), got {got}; convert them first"
        raise UsageError(message)
    return Image.fromarray(image)


def _fit(image: Image.Image, size: tuple[int, int], preprocess: Preprocess) -> Image.Image:
    """Bring a picture to the size of the input."""
    height, width = size
    if preprocess.resize == "exact":
        if (image.height, image.width) != size:
            got = f"{image.height}x{image.width}"
            message = f"expected a picture of {height}x{width} pixels, got {got}; resize it first"
            raise UsageError(message)
        return image
    if preprocess.resize == "stretch":
        return image.resize((width, height), FILTERS[preprocess.interpolation])
    image = _cover(image, size, preprocess)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _cover(image: Image.Image, size: tuple[int, int], preprocess: Preprocess) -> Image.Image:
    """Resize, keeping the aspect, until the picture just covers the input's size over the crop's share."""
    height, width = (int(side / preprocess.crop) for side in size)
    if height * image.width >= width * image.height:
        width = max(width, int(height * image.width / image.height))
    else:
        height = max(height, int(width * image.height / image.width))
    return image.resize((width, height), FILTERS[preprocess.interpolation])
