"""The frames of a pass as a folder of files.

For every frame ``NN`` the folder holds ``NN-input.png`` and ``.npy`` (and ``NN-input-phase.png`` where a
modulator of phases shows negative amplitudes), ``NN-mask-amplitude.png``, ``NN-mask-phase.png`` and
``NN-mask.npy``, and ``NN-camera.png`` and ``.npy`` as ideal optics would give it; ``overview.png`` shows
tiles, guard bands and answers of the first frame, and ``manifest.json`` says what each file is and how
answers are read back. Masks lie with frequency zero in the middle, where a lens puts it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ..export.artifact import Array

if TYPE_CHECKING:
    from ..runtimes.optical4f.frames import Frame, Pass

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, the last ones outside."""

TILE, ROOM, ANSWER = (255, 150, 40), (0, 130, 200), (60, 190, 90)
"""Colours of a tile, of the room it takes with its guard band, and of an answer."""
SHOWN = 8
"""Tiles along each side of an overview."""
PANEL = 480
"""Pixels along each side of one of its planes, at most."""
_STRIP = 24
"""Pixels between them."""


def write_frames(
    folder: Path, laid: Pass, seen: Sequence[Array], *, model: str, device: str, number: int
) -> None:
    """Write a pass.

    Args:
        folder: Made when it does not exist.
        laid: The pass.
        seen: (Y, X) camera intensities of its frames.
        model: Name of the network.
        device: Name of the device.
        number: Of the pass.
    """
    folder.mkdir(parents=True, exist_ok=True)
    brightest = max(float(intensity.max()) for intensity in seen) or 1.0
    entries: list[dict[str, object]] = []
    for index, (frame, intensity) in enumerate(zip(laid.frames, seen, strict=True)):
        files = _write_frame(folder, f"{index:02d}", frame, intensity / brightest)
        entries.append(
            {
                "part": frame.part,
                "mask": frame.mask_number,
                "reference": [frame.reference.real, frame.reference.imag],
                "files": files,
            }
        )
    overview(laid, laid.frames[0], seen[0] / brightest).save(folder / "overview.png")
    rows, columns = laid.layout.rows, laid.layout.columns
    manifest = {
        "schema": 1,
        "simulated": "camera frames are those of ideal optics; no light was involved",
        "model": model,
        "device": device,
        "layer": laid.layer.name,
        "pass": number,
        "plane": list(laid.frames[0].input.shape),
        "scheme": laid.scheme.name,
        "tiles": [list(box) for box in tile_boxes(laid)],
        "answers": [list(box) for box in answer_boxes(laid)],
        "tile": [rows.n, columns.n],
        "kernel": [rows.k, columns.k],
        "pitch": [rows.pitch, columns.pitch],
        "input_full_scale": laid.peak,
        "mask_gain": laid.gain,
        "kernel_strengths": laid.strengths.numpy().tolist(),
        "passes": laid.passes,
        "camera_full_scale": brightest,
        "frames": entries,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def tile_boxes(laid: Pass) -> list[Box]:
    """Give where the pictures lie on the input plane."""
    layout, (groups, pictures, channels) = laid.layout, laid.tiles.shape[:3]
    boxes: list[Box] = []
    for g, p, c in np.ndindex(groups, pictures, channels):
        (g1, g2), (p1, p2), (c1, c2) = (
            layout.split(g, "groups"),
            layout.split(p, "images"),
            layout.split(c, "channels"),
        )
        top = layout.down.input_at(g1, p1, c1) * layout.rows.pitch
        left = layout.across.input_at(g2, p2, c2) * layout.columns.pitch
        boxes.append((left, top, left + layout.columns.n, top + layout.rows.n))
    return boxes


def answer_boxes(laid: Pass) -> list[Box]:
    """Give where the answers lie on the camera; those of the edge wrap around."""
    layout, (groups, pictures), kernels = laid.layout, laid.tiles.shape[:2], laid.kernels.shape[1]
    boxes: list[Box] = []
    for g, p, m in np.ndindex(groups, pictures, kernels):
        (g1, g2), (p1, p2), (m1, m2) = (
            layout.split(g, "groups"),
            layout.split(p, "images"),
            layout.split(m, "kernels"),
        )
        top = layout.down.output_at(g1, p1, m1) * layout.rows.pitch - layout.rows.before
        left = layout.across.output_at(g2, p2, m2) * layout.columns.pitch - layout.columns.before
        boxes.append((left, top, left + layout.columns.out, top + layout.rows.out))
    return boxes


def overview(laid: Pass, frame: Frame, camera: Array) -> Image.Image:
    """Draw tiles with their guard bands, the mask, and answers, side by side."""
    rows, columns = laid.layout.rows, laid.layout.columns
    height, width = frame.input.shape
    part = (min(height, SHOWN * rows.pitch), min(width, SHOWN * columns.pitch))
    scale = max(1, PANEL // max(part))
    shown = _enlarged(np.abs(frame.input[: part[0], : part[1]]), scale)
    seen = _enlarged(np.sqrt(camera)[: part[0], : part[1]], scale)
    for left, top, right, bottom in tile_boxes(laid):
        room = (left, top, left + columns.pitch, top + rows.pitch)
        _outline(shown, room, scale, ROOM)
        _outline(shown, (left, top, right, bottom), scale, TILE)
    for box in answer_boxes(laid):
        _outline(seen, box, scale, ANSWER)
    mask = np.fft.fftshift(np.abs(frame.mask))
    panels = (shown, _grey(mask / (mask.max() or 1.0)).convert("RGB").resize((PANEL, PANEL)), seen)
    image = Image.new("RGB", (sum(p.width for p in panels) + 2 * _STRIP, PANEL), (255, 255, 255))
    left = 0
    for panel in panels:
        image.paste(panel, (left, 0))
        left += panel.width + _STRIP
    return image


def _enlarged(plane: Array, scale: int) -> Image.Image:
    picture = _grey(plane).convert("RGB")
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _outline(image: Image.Image, box: Box, scale: int, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = (edge * scale for edge in box)
    if left >= 0 and top >= 0 and left < image.width and top < image.height:
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), outline=colour)


def _write_frame(folder: Path, stem: str, frame: Frame, camera: Array) -> dict[str, str]:
    mask = np.fft.fftshift(frame.mask)
    phase = (np.angle(mask) / (2 * np.pi)) % 1.0
    pictures = {"input": np.abs(frame.input), "mask-amplitude": np.abs(mask), "mask-phase": phase}
    if frame.part == "whole":
        pictures["input-phase"] = 0.5 * (frame.input < 0)
    pictures["camera"] = camera
    arrays = {"input": frame.input, "mask": mask, "camera": camera}
    for name, plane in pictures.items():
        _grey(plane).save(folder / f"{stem}-{name}.png")
    for name, array in arrays.items():
        np.save(folder / f"{stem}-{name}.npy", array)
    return {name: f"{stem}-{name}.png" for name in pictures} | {
        f"{name} as numbers": f"{stem}-{name}.npy" for name in arrays
    }


def _grey(plane: Array) -> Image.Image:
    """Write 0..1 as 8 bits."""
    return Image.fromarray(np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8))
