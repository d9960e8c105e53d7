"""Devices: the checked rows of devices.yaml."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import cast

import yaml

from ..errors import UsageError, unknown_name
from .engines import runtime_names

MAX_BYTES = 1 << 18
"""Largest file of device rows that is read."""

ARCHS = ("x86_64", "aarch64", "any")
SYSTEMS = ("linux", "windows", "macos", "ios", "android", "any")


@dataclass(frozen=True)
class Device:
    """One row of devices.yaml."""

    name: str
    title: str
    """For people: ``"x86 CPU with ONNX Runtime"``."""
    runtime: str
    """Name of the engine that compiles for it."""
    arch: str
    """Processor architecture that runs the engine: ``x86_64``, ``aarch64``, or ``any``."""
    os: str = "any"
    unit: str = "CPU"
    """The part that computes: CPU, GPU, NPU, ANE, 4f."""
    threads: int = 1
    """Threads used for every timing."""
    notes: str = ""
    compute: str = ""
    """Compute capability of an NVIDIA GPU: ``SM89``."""
    batches: tuple[int, ...] = ()
    """Smallest, usual and largest batch, for engines that plan for a range of them."""
    target: str = ""
    """Oldest system that a Core ML package runs on: ``iOS17``."""
    preset: str = ""
    """Optical hardware: a name of the presets of ``runtimes/optical4f``."""

    def elsewhere(self) -> str | None:
        """Say why this machine is not the device, or None when it may be.

        An engine may still build and check for such a device here; what it runs is then an emulation,
        and its latency says nothing about the device.
        """
        arch, system = _host()
        wanted = [
            f"{want} but this machine is {have}"
            for want, have in ((self.arch, arch), (self.os, system))
            if want not in ("any", have)
        ]
        return f"{self.name} is {' and '.join(wanted)}" if wanted else None


def load_devices(extra: Path | None = None) -> dict[str, Device]:
    """Read the shipped devices, and lay the rows of another file over them.

    Args:
        extra: A file of the same form; a row with a known name replaces that row as a whole.

    Returns:
        Devices by name, in the order of the files.

    Raises:
        UsageError: If a file or a row is wrong; the sentence names both.
    """
    shipped = files("fourfold").joinpath("devices.yaml").read_bytes()
    devices = _parse(shipped, "devices.yaml")
    if extra is not None:
        devices |= _parse(_read(extra), str(extra))
    return devices


def get_device(name: str, extra: Path | None = None) -> Device:
    """Find one device by name.

    Args:
        name: Name of a row.
        extra: As in ``load_devices``.

    Raises:
        UsageError: If no row has this name.
    """
    devices = load_devices(extra)
    if name not in devices:
        raise unknown_name(kind="device", name=name, known=devices)
    return devices[name]


def _host() -> tuple[str, str]:
    """Give architecture and system of this machine in the words of the rows."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    return arch, system


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"expected a readable file of device rows, got {path}: {error.strerror}; check the path"
        raise UsageError(message) from error
    if len(data) > MAX_BYTES:
        message = f"expected at most {MAX_BYTES} bytes of device rows, got more in {path}; shorten the file"
        raise UsageError(message)
    return data


def _parse(data: bytes, source: str) -> dict[str, Device]:
    try:
        rows: object = yaml.safe_load(data)
    # Hostile text reaches past YAMLError: deep nesting, impossible dates and numbers.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        message = f"expected YAML in {source}, got text that does not parse ({reason}); mend the file"
        raise UsageError(message) from error
    if not isinstance(rows, list):
        message = f"expected a list of rows in {source}, got {_kind(rows)}; start each row with '- name:'"
        raise UsageError(message)
    devices: dict[str, Device] = {}
    for number, row in enumerate(cast("list[object]", rows), start=1):
        device = _device(row, number, source)
        if device.name in devices:
            message = f"expected each name once in {source}, got {device.name!r} twice; rename one row"
            raise UsageError(message)
        devices[device.name] = device
    return devices


def _device(row: object, number: int, source: str) -> Device:
    if not isinstance(row, dict):
        message = f"expected row {number} of {source} to be keys and values, got {_kind(row)}; see the header"
        raise UsageError(message)
    values = cast("dict[object, object]", row)
    label = values.get("name")
    where = f"row {label if isinstance(label, str) else number} of {source}"
    device = Device(**_typed(values, where))  # type: ignore[arg-type]
    _check(device, where)
    return device


def _typed(row: Mapping[object, object], where: str) -> dict[str, object]:
    """Check keys and types of one row."""
    known = {field.name: field for field in fields(Device)}
    for key in row:
        if key not in known:
            message = f"{where}: {unknown_name('key', str(key), known)}"
            raise UsageError(message)
    values: dict[str, object] = {}
    for name, field in known.items():
        if name not in row:
            if field.default is MISSING:
                message = f"{where}: expected the key {name!r}, got none; add it"
                raise UsageError(message)
            continue
        value, wanted = row[name], _KINDS.get(name, str)
        # bool is an int in Python; the type must be the very one.
        if type(value) is not wanted:
            message = f"{where}: expected {name} to be {_WORDS[wanted]}, got {_kind(value)}; {_HINTS[wanted]}"
            raise UsageError(message)
        values[name] = tuple(cast("list[object]", value)) if wanted is list else value
    return values


def _check(device: Device, where: str) -> None:
    """Check the values of one row."""
    # The name becomes part of a folder's name.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", device.name):
        message = (
            f"{where}: expected a name of letters, digits, '.', '_' and '-', got {device.name!r}; rename it"
        )
        raise UsageError(message)
    if device.threads < 1:
        message = f"{where}: expected threads of at least 1, got {device.threads}; give a count of cores"
        raise UsageError(message)
    sizes = device.batches
    if sizes and not (
        len(sizes) == 3 and all(type(n) is int for n in sizes) and 1 <= sizes[0] <= sizes[1] <= sizes[2]
    ):
        message = (
            f"{where}: expected batches to be the smallest, usual and largest size, got {list(sizes)}; "
            "write for example [1, 4, 8]"
        )
        raise UsageError(message)
    choices = (
        ("arch", device.arch, ARCHS),
        ("os", device.os, SYSTEMS),
        ("runtime", device.runtime, runtime_names()),
    )
    for key, value, known in choices:
        if value not in known:
            message = f"{where}: {unknown_name(key, value, known)}"
            raise UsageError(message)


_KINDS: dict[str, type] = {"threads": int, "batches": list}
"""Keys whose value is no text."""

_WORDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list"}
_HINTS: dict[type, str] = {
    str: "put it in quotes",
    int: "write digits only",
    list: "write it in square brackets",
}


def _kind(value: object) -> str:
    """Name the type of a value in a sentence; never the value, which may be huge."""
    return "nothing" if value is None else type(value).__name__
