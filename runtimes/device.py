"""Devices: the checked rows of devices.yaml."""

from __future__ import annotations

from dataclasses import dataclass


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
