"""The values that the harness makes: everything a report says is in one ``Report``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..calibration.ranges import DataSource
from ..export.artifact import Array, Compression, Step
from ..export.parity import Parity
from ..models.spec import TensorSpec
from ..runtimes.exhibit import Exhibit
from ..runtimes.runtime import Executed

SCHEMA = 1
"""Version of the JSON that ``Report`` becomes; raised when a field changes its meaning."""

APP_PACKAGE = "app package"
"""Name of the step that makes the form that an app wants."""
SMALLER_WEIGHTS = "compress weights"
"""Name of the step after which weights take fewer bits than the network computes with."""


@dataclass(frozen=True)
class Host:
    """The machine that a number was measured on."""

    processor: str
    arch: str
    os: str
    cores: int
    flags: tuple[str, ...]
    """Instruction sets that change kernels: avx2, avx512f, avx512_vnni, ..."""
    governor: str | None = None
    load: float | None = None
    """One-minute load average when timing began."""
    logical_cores: int | None = None
    """Cores as the system counts them; more than ``cores`` (the physical ones) with hyper-threading."""


@dataclass(frozen=True)
class Latency:
    """A *measured* latency with every raw sample; modelled figures have a type of their own."""

    samples_ns: Array
    """(n,) int64: duration of each call, in the order taken."""
    batch: int
    threads: int
    affinity: tuple[int, ...]
    """Cores the process was allowed to run on; empty where the system has no notion of it."""
    warmup_calls: int
    steady: bool
    """False when the warm-up ended by its limit before the timings were steady."""
    clock: str
    overhead_ns: float
    """Cost of one empty measured call, not subtracted."""
    host: Host
    started: str
    """UTC time, ISO 8601."""
    bursts: tuple[int, ...] = ()
    """How many of the samples each burst took; there were pauses between bursts. Empty: one burst."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LatencySummary:
    """What may be said about a ``Latency``, in milliseconds."""

    n: int
    median_ms: Interval
    mean_ms: float
    min_ms: float
    percentiles_ms: Mapping[str, float]
    """``"p90"``, ``"p95"``, ``"p99"``, ``"p99.9"``: only those that ``n`` samples carry."""
    refused: Mapping[str, str]
    """The percentiles that are not given, and why."""
    drift: float
    """Spearman correlation of latency with time; near 0 when the device is steady."""
    batch: int
    threads: int
    affinity: tuple[int, ...]
    warmup_calls: int
    steady: bool
    clock: str
    overhead_ns: float
    host: Host
    started: str


@dataclass(frozen=True)
class Accuracy:
    """Paired accuracy of an artifact and of the float model on the same labelled samples."""

    n: int
    correct: int
    float_correct: int
    broke: int
    """Right in float, wrong here."""
    fixed: int
    """Wrong in float, right here."""
    p_value: float
    """McNemar's exact two-sided p."""
    agreement: float
    """Share of samples with the same first answer as float."""
    sqnr_db: float
    """Of the logits against float, over all samples."""
    interval: Interval
    """Top-1 accuracy with its 95 % Wilson interval."""
    source: DataSource
    verdict: str
    """One sentence in plain words."""


@dataclass(frozen=True)
class Verdict:
    """One gate."""

    gate: str
    """``parity``, ``accuracy``, ``executed``, ``latency``."""
    ok: bool
    sentence: str


@dataclass(frozen=True)
class Report:
    """Everything known about one bundle; becomes report.json, and from that every table and page."""

    model: str
    device: str
    device_title: str
    runtime: str
    precision: str
    command: str
    created: str
    """UTC time, ISO 8601."""
    tools: Mapping[str, str]
    """Version by package name."""
    facts: Mapping[str, str]
    """Paper, licence, how checked, parameters, weights: whatever is known of the model."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Mapping[str, int]
    """Bytes by file of the bundle (``model.onnx``, ``compiled/...``)."""
    history: tuple[Step, ...]
    calibration: DataSource | None
    observer: str | None
    parity: tuple[Parity, ...]
    """The compiled artifact against the source model."""
    accuracy: Accuracy | None
    accuracy_note: str
    """Why there is no accuracy; empty when there is one."""
    latency: LatencySummary | None
    latency_note: str
    """Why there is no latency; empty when there is one."""
    executed: tuple[Executed, ...]
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...] = field(default=())
    """Shown on top of the page: a synthetic calibration, an emulated check, random weights."""
    exhibits: tuple[Exhibit, ...] = field(default=())
    """What the engine shows of its work."""
    compression: Compression | None = None
    """Of the weights of the compiled file, where it stores them in fewer bits than the graph."""
    schema: int = SCHEMA

    @property
    def form(self) -> str:
        """Precision, and what the weights are stored in if that is something else."""
        return form_of(self.precision, self.compression)

    @property
    def title(self) -> str:
        """The bundle's folder name, ``MODEL@DEVICE-PRECISION``."""
        return f"{self.model}@{self.device}-{self.form}"

    @property
    def ok(self) -> bool:
        """True when every gate said yes."""
        return all(v.ok for v in self.verdicts)


def form_of(precision: str, compression: Compression | None) -> str:
    """Name a precision, and what the weights are stored in: ``fp16``, ``fp16-int4-weights``."""
    return f"{precision}-{compression}-weights" if compression else precision
