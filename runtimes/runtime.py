"""The contract between the harness and an engine: ahead of time, and run time, with a file between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from ..calibration.scheme import QdqStyle
from ..export.artifact import Array, Compression, Exported, Feed, Precision, Refusal
from ..models.spec import Preprocess
from .device import Device
from .exhibit import Exhibit

Support = Literal["yes", "no", "partly"]


@dataclass(frozen=True)
class Capabilities:
    """What an engine takes, as data: ``doctor`` prints it, ``export`` consults it, a test proves it."""

    opset: int
    """The opset that graphs for this engine are written in."""
    opsets: tuple[int, int]
    """Lowest and highest opset that was seen to run right."""
    precisions: tuple[Precision, ...]
    qdq: QdqStyle | None
    """How int8 is written into graphs for this engine; None where it has no int8."""
    control_flow: Mapping[str, Support]
    """Support for If, Loop and Scan."""
    attention: Support
    fft: Support
    dynamic_shapes: Support
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    """The reason behind every ``partly`` and ``no``, by capability."""
    qdq_by_arch: Mapping[str, QdqStyle] = field(default_factory=dict[str, QdqStyle])
    """Processor architectures on which the engine's int8 kernels want another style than ``qdq``."""
    compressions: tuple[Compression, ...] = ()
    """How it stores weights by themselves in fewer bits; such an engine fulfils ``Compresses``."""

    def style_for(self, device: Device) -> QdqStyle | None:
        """Give the Q/DQ style that pays on a device."""
        return self.qdq_by_arch.get(device.arch, self.qdq)


@dataclass(frozen=True)
class Executed:
    """What really ran: a share of the nodes, where, and in which precision.

    Nodes on shapes and indices are left out; a conversion to or from int8 is float arithmetic.
    """

    provider: str
    precision: str
    """``fp32``, ``fp16``, ``bf16``, ``fp64``, ``int8``, ``analog``; ``none`` when nothing is computed."""
    nodes: int
    share: float
    """Of all nodes that compute, 0..1."""


class Session(Protocol):
    """A network opened on a device; a context manager that frees the device at its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def run(self, feed: Feed) -> Feed:
        """Run one inference and return when the device has finished.

        Args:
            feed: Every input by name.

        Returns:
            Every output by name, in new arrays.

        Raises:
            UsageError: If a name, shape or dtype does not fit.
            RunError: If the device fails.
        """
        ...

    def executed(self) -> tuple[Executed, ...]:
        """Say what really ran, after at least one ``run``."""
        ...


@runtime_checkable
class Runtime(Protocol):
    """One engine."""

    name: str
    library: str
    """The package behind it, for the tool versions in manifests; ``""`` when there is none."""
    capabilities: Capabilities
    passes: tuple[str, ...]
    """Names of the rewrites that pay on this engine besides the common ones (``export.passes``)."""

    def missing(self, device: Device) -> str | None:
        """Say what is missing here to compile for ``device``, or None."""
        ...

    def cannot_run(self, device: Device) -> str | None:
        """Say why this machine can build for ``device`` but not open what was built, or None."""
        ...

    def emulated(self, device: Device) -> str | None:
        """Say what stands in for ``device`` when this machine opens a compiled file.

        None where the device's own engine opens it; another machine with the same engine is `elsewhere`.
        """
        ...

    def compile(self, exported: Exported, device: Device, out: Path) -> Path:
        """Compile into the existing folder ``out`` and return the compiled file.

        Raises:
            BuildError: If the engine refuses the graph.
        """
        ...

    def open(self, compiled: Path, device: Device) -> Session:
        """Open a compiled file on the device.

        Raises:
            RunError: If the device refuses the file.
        """
        ...


@runtime_checkable
class Describes(Protocol):
    """An engine that can show what it made of a network."""

    def describe(self, compiled: Path, device: Device) -> tuple[Exhibit, ...]:
        """Read back what ``compile`` left beside the compiled file, as tables for the report.

        Raises:
            RunError: If it cannot be read.
        """
        ...


@dataclass(frozen=True)
class Compressed:
    """A compiled file with smaller weights."""

    path: Path
    weights: int
    """How many are stored in fewer bits."""
    sizes: tuple[int, int]
    """Bytes of the compiled file before and after."""
    kept: tuple[Refusal, ...]
    """Weights that stay as they are, or take more bits than asked for, and why."""


@runtime_checkable
class Compresses(Protocol):
    """An engine that stores weights in fewer bits than it computes with, and opens what it compiles."""

    def cannot_compress(self, device: Device, compression: Compression) -> str | None:
        """Say why ``device`` cannot take weights in this form, or None."""
        ...

    def compress(self, compiled: Path, device: Device, compression: Compression, out: Path) -> Compressed:
        """Store the weights of a compiled file in fewer bits, in a new file of that name in ``out``.

        Raises:
            BuildError: If no weight can be.
        """
        ...


@dataclass(frozen=True)
class AppAnswer:
    """What a package for an app says to one picture."""

    outputs: Feed
    """Of the network, by name, for a batch of one; the first as probabilities where there is a label."""
    label: str
    """Empty where the classes have no names."""


Ask = Callable[[Array], AppAnswer]
"""Asks a package for an app about the pixels of one picture: uint8 of shape (H, W) or (H, W, 3)."""


@runtime_checkable
class MakesApps(Protocol):
    """An engine that also writes the form that an app wants: a picture goes in, a class label comes out."""

    def make_app(
        self, exported: Exported, device: Device, preprocess: Preprocess, labels: Sequence[str], out: Path
    ) -> Path:
        """Compile into the existing folder ``out``, with the preprocessing inside.

        Args:
            exported: A network of one input, a picture.
            device: The device.
            preprocess: How pictures become its input.
            labels: Names of the classes of its first output; none where it does not classify.
            out: The folder.

        Raises:
            UsageError: If the network takes no picture, or has another number of classes.
            BuildError: If the engine refuses it.
        """
        ...

    def open_app(self, app: Path, device: Device) -> Ask:
        """Open what `make_app` wrote.

        Raises:
            RunError: If the device refuses the file.
        """
        ...


def stand_in(runtime: Runtime, device: Device) -> str | None:
    """Say why a figure taken on this machine is not the device's, or None on the device itself."""
    return runtime.cannot_run(device) or runtime.emulated(device) or device.elsewhere()
