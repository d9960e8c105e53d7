"""Facts of the machine that explain a number: never an error, at worst a fact that is not known."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import psutil

from .result import Host

# Instruction sets that change which kernel an engine picks, as Linux and macOS spell them.
KERNEL_FLAGS = (
    *("sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
# Says that the processor is shared by a hypervisor: neighbours then show up as noise.
VIRTUAL_FLAG = "hypervisor"
# ARM features as `sysctl hw.optional.arm` names them on macOS.
MACOS_ARM = {"FEAT_DotProd": "asimddp", "FEAT_FP16": "asimdhp", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16"}

CPUINFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def host() -> Host:
    """Describe this machine as it is now."""
    facts = _cpuinfo() if sys.platform == "linux" else _sysctl() if sys.platform == "darwin" else {}
    logical = psutil.cpu_count(logical=True) or os.cpu_count() or 1
    return Host(
        processor=_processor(facts),
        arch=platform.machine().replace("AMD64", "x86_64"),
        os=f"{platform.system()} {platform.release()}",
        cores=psutil.cpu_count(logical=False) or logical,
        flags=_flags(facts),
        governor=_text(GOVERNOR) or None,
        load=_load(),
        logical_cores=logical,
    )


def affinity() -> tuple[int, ...]:
    """Return the cores this process may run on; empty where the system has no notion of it."""
    if sys.platform == "darwin":
        return ()
    try:
        return tuple(sorted(psutil.Process().cpu_affinity() or ()))
    except (AttributeError, OSError, psutil.Error):
        return ()


def tools(names: Iterable[str] = ()) -> Mapping[str, str]:
    """Return the version of Python and of each installed package, in the order given.

    Args:
        names: Distribution names; one that is not installed is left out.
    """
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _processor(facts: Mapping[str, str]) -> str:
    # ARM Linux has no "model name"; boards name themselves in the device tree.
    board = _text(Path("/proc/device-tree/model")).rstrip("\0")
    known = (facts.get("model name"), facts.get("machdep.cpu.brand_string"), facts.get("Model"), board)
    return next((name for name in known if name), platform.processor() or platform.machine() or "unknown")


def _flags(facts: Mapping[str, str]) -> tuple[str, ...]:
    words = set(f"{facts.get('flags', '')} {facts.get('Features', '')}".split())
    mac = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}"
    words |= set(mac.lower().replace("avx1.0", "avx").replace("sse4.", "sse4_").split())
    words |= {flag for name, flag in MACOS_ARM.items() if facts.get(f"hw.optional.arm.{name}") == "1"}
    return tuple(flag for flag in (*KERNEL_FLAGS, VIRTUAL_FLAG) if flag in words)


def _cpuinfo() -> dict[str, str]:
    return _pairs(_text(CPUINFO))


def _sysctl() -> dict[str, str]:
    keys = ("machdep.cpu", "hw.optional")
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", *keys], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return _pairs(done.stdout)


def _pairs(text: str) -> dict[str, str]:
    """Read ``key : value`` lines; the first of a repeated key (the first core) wins."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
