"""Hardware presets: the checked rows of presets.yaml, every figure with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeVar, cast

import yaml

from ...errors import UsageError, unknown_name

VERSION = 1
SCHEMES = ("pseudo-negative", "kernel-bias", "reference", "homodyne", "incoherent")
"""How signed values reach a camera that sees intensities (``detection``)."""

Tag = Literal["S", "K", "H"]
"""S: the source was read; K: common knowledge, to be checked; H: a hypothetical part."""


@dataclass(frozen=True)
class Modulator:
    """A plane of pixels that writes the input, or the mask."""

    name: str
    title: str
    kind: Literal["amplitude", "phase", "complex"]
    width: int
    height: int
    pitch_um: float
    bits: int
    frame_us: float
    """From one picture to the next."""
    settle_us: float
    """Before the picture stands still; light is of no use meanwhile."""
    contrast: float
    efficiency: float
    """Share of the light that leaves in the order that is used."""
    power_w: float
    source: str
    date: str
    tag: Tag


@dataclass(frozen=True)
class Camera:
    """What turns intensities into numbers."""

    name: str
    title: str
    width: int
    height: int
    frame_us: float
    bits: int
    full_well_e: float
    read_noise_e: float
    quantum_efficiency: float
    prnu: float
    power_w: float
    source: str
    date: str
    tag: Tag

    @property
    def pixels_per_second(self) -> float:
        """Of the whole sensor at its full rate."""
        return self.width * self.height / (self.frame_us * 1e-6)


@dataclass(frozen=True)
class Laser:
    """What lights the input plane."""

    name: str
    title: str
    wavelength_nm: float
    power_mw: float
    wall_plug: float
    """Light out by electricity in."""
    source: str
    date: str
    tag: Tag

    @property
    def photon_j(self) -> float:
        """Energy of one photon, h c / lambda."""
        return 6.62607015e-34 * 299_792_458 / (self.wavelength_nm * 1e-9)


@dataclass(frozen=True)
class Electronics:
    """What surrounds the optics: converters, memory, links and the arithmetic that stays electronic."""

    name: str
    title: str
    dac_pj: float
    """Of one conversion of one pixel."""
    adc_pj: float
    memory_pj_per_byte: float
    mac_pj: float
    flop_pj: float
    link_gbit_s: float
    mac_gops: float
    """Multiply-adds per nanosecond of what stays electronic."""
    source: str
    date: str
    tag: Tag


@dataclass(frozen=True)
class System:
    """One optical 4f processor: its parts, and how it reads signed values."""

    name: str
    title: str
    input: Modulator
    mask: Modulator
    camera: Camera
    laser: Laser
    electronics: Electronics
    scheme: str
    signs: Literal["pair", "offset", "phase"]
    """How negative inputs are shown: in two frames, raised by a constant, or as a phase of half a wave."""
    optics_efficiency: float
    """Of lenses, polarisers and beam splitters together."""
    wanted_electrons: float
    """At the brightest pixel, below which the schedule takes fewer kernels per frame."""
    laser_rin: float
    """Relative intensity noise of the laser, rms from frame to frame."""
    phase_drift: float
    """Of the reference, in radians rms from pass to pass."""
    ideal: bool
    """Whether the simulation leaves out everything that is not ideal."""

    @property
    def width(self) -> int:
        """Pixels that input, mask and camera share along a row."""
        return min(self.input.width, self.mask.width, self.camera.width)

    @property
    def height(self) -> int:
        """Pixels that input, mask and camera share along a column."""
        return min(self.input.height, self.mask.height, self.camera.height)


Part = TypeVar("Part", Modulator, Camera, Laser, Electronics)


def systems() -> dict[str, System]:
    """Give every preset by name, in the order of the file."""
    return dict(_load())


def get_system(name: str) -> System:
    """Find one preset.

    Raises:
        UsageError: If nothing has this name.
    """
    known = _load()
    if name not in known:
        kind = "optical preset"
        raise unknown_name(kind, name, known)
    return known[name]


@cache
def _load() -> Mapping[str, System]:
    text = files("fourfold").joinpath("runtimes/optical4f/presets.yaml").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> dict[str, System]:
    """Read the text of a file of presets.

    Raises:
        UsageError: If a row is wrong; the sentence names it.
    """
    data = cast("dict[str, Any]", yaml.safe_load(text))
    if data.get("version") != VERSION:
        message = (
            f"expected optical presets of version {VERSION}, got {data.get('version')}; convert the file"
        )
        raise UsageError(message)
    modulators = _parts(Modulator, data["modulators"])
    cameras, lasers = _parts(Camera, data["cameras"]), _parts(Laser, data["lasers"])
    electronics = _parts(Electronics, data["electronics"])
    found: dict[str, System] = {}
    for row in data["systems"]:
        parts: dict[str, object] = {
            "input": _named(modulators, row["input"]),
            "mask": _named(modulators, row["mask"]),
            "camera": _named(cameras, row["camera"]),
            "laser": _named(lasers, row["laser"]),
            "electronics": _named(electronics, row["electronics"]),
        }
        if row["scheme"] not in SCHEMES:
            kind = "detection scheme"
            raise unknown_name(kind, row["scheme"], SCHEMES)
        values: dict[str, Any] = {**_checked(System, row), **parts}
        found[row["name"]] = System(**values)
    return found


def _parts(kind: type[Part], rows: list[dict[str, Any]]) -> dict[str, Part]:
    make = cast("Any", kind)
    return {row["name"]: make(**_checked(kind, row)) for row in rows}


def _checked(kind: type[object], row: dict[str, Any]) -> dict[str, Any]:
    known = [field.name for field in fields(cast("Any", kind))]
    label = f"optical preset {row.get('name', '?')}"
    for key in row:
        if key not in known:
            raise UsageError(f"{label}: {unknown_name('key', key, known)}")
    for key in known:
        if key not in row:
            message = f"{label}: expected the key {key!r}, got none; add it"
            raise UsageError(message)
    return row


def _named(known: Mapping[str, Part], name: str) -> Part:
    if name not in known:
        kind = "part of an optical preset"
        raise unknown_name(kind, name, known)
    return known[name]
