"""From a decoded picture to one input of a network, with numpy and Pillow only.

Axis letters: C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import UsageError
from .spec import Preprocess

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def prepare(image: Image.Image | np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Resize, scale to 0..1 and normalise one picture.

    Args:
        image: A picture, or (H, W) or (H, W, 3) uint8.
        preprocess: How; size and mode declared or `fitted`.

    Returns:
        (C, H, W) float32.

    Raises:
        UsageError: If size or mode is missing, or ``exact`` is asked for and the size differs.
    """
    if preprocess.size is None or preprocess.mode is None:
        msg = "expected a preprocessing with size and mode, got one without; call fitted(spec) first"
        raise UsageError(msg)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    pixels = (
        np.asarray(_resized(picture.convert(preprocess.mode), preprocess, preprocess.size), np.float32)
        / 255.0
    )
    pixels = pixels.reshape(*preprocess.size, -1)
    normal = (pixels - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _resized(picture: Image.Image, preprocess: Preprocess, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if preprocess.resize == "exact":
        if picture.size != (width, height):
            raise UsageError(
                f"expected a picture of {height}x{width} pixels, "
                f"got {picture.height}x{picture.width}; resize it"
            )
        return picture
    filtering = _FILTERS[preprocess.interpolation]
    if preprocess.resize == "stretch":
        return picture.resize((width, height), filtering)
    scale = max(height / picture.height, width / picture.width) / preprocess.crop
    larger = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    left, top = (larger[0] - width) // 2, (larger[1] - height) // 2
    return picture.resize(larger, filtering).crop((left, top, left + width, top + height))
