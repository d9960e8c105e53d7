"""The samples a walk works with: what calibrates, what scores, and why one of them is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..calibration.collect import FEWEST
from ..calibration.samples import (
    Samples,
    open_samples,
    overlap,
    shipped_samples,
    synthetic_samples,
)
from ..calibration.scheme import QuantScheme
from ..errors import UsageError
from ..export.artifact import Precision
from ..models.sources import OnnxFile
from ..models.spec import ModelSpec, TensorSpec

SET_UP_SAMPLES = 64
"""That the modulators and cameras of an analog device are set up on."""

SHOWN = 16
"""Of a float network's samples that are looked at: the golden ones are the first of them."""

NOT_SET_UP = (
    "No calibration samples: the analog device was set up on the few golden inputs of the bundle, so its "
    "ranges are a guess; give --data."
)


@dataclass(frozen=True)
class Materials:
    """Samples by their use."""

    scheme: QuantScheme
    calibration: Samples | None
    """None for a float bundle, and for an analog device where there are none."""
    evaluation: Samples | None
    note: str
    """Why there is nothing to score on; empty when there is."""
    warnings: tuple[str, ...] = ()
    shown: Samples | None = None
    """What ``--data`` gives to a float network, which has nothing to calibrate."""

    @property
    def real(self) -> Samples | None:
        """Real samples to compare answers on; None where only random inputs are known."""
        return self.evaluation or self.calibration or self.shown


def gather(
    source: ModelSpec | OnnxFile,
    inputs: tuple[TensorSpec, ...],
    precision: Precision,
    *,
    data: Path | None,
    eval_data: Path | None,
    synthetic: bool,
    scheme: QuantScheme,
    seed: int,
) -> Materials:
    """Open the samples before any long step begins, so that a bad folder costs no waiting.

    Raises:
        UsageError: If int8 has nothing to calibrate on, a source is unreadable, or calibration samples
            are also evaluation samples.
    """
    known = data is not None or synthetic or (isinstance(source, ModelSpec) and bool(source.dataset))
    calibration = None
    if precision == "int8" or (precision == "analog" and known):
        limit = scheme.max_samples if precision == "int8" else SET_UP_SAMPLES
        calibration = _calibration(source, inputs, data, synthetic=synthetic, limit=limit, seed=seed)
    shown = None
    if calibration is None and data is not None:
        shown = open_samples(data, inputs, source.preprocess, limit=SHOWN, seed=seed, labels=source.labels)
    evaluation = _evaluation(source, inputs, eval_data, seed=seed)
    if calibration and evaluation and (shared := overlap(calibration, evaluation)):
        raise UsageError(
            f"expected calibration and evaluation samples to be disjoint, got {shared} in both; "
            "give --data and --eval-data different samples"
        )
    note = "" if evaluation else "no labelled samples: give some with --eval-data"
    warnings = _warnings(calibration, evaluation)
    if precision == "analog" and calibration is None:
        warnings = (NOT_SET_UP, *warnings)
    return Materials(scheme, calibration, evaluation, note, warnings, shown)


def _calibration(
    source: ModelSpec | OnnxFile,
    inputs: tuple[TensorSpec, ...],
    data: Path | None,
    *,
    synthetic: bool,
    limit: int,
    seed: int,
) -> Samples:
    if data is not None and synthetic:
        message = "expected one source of calibration samples, got --data and --synthetic-calibration"
        raise UsageError(message)
    if synthetic:
        return synthetic_samples(inputs, count=limit, seed=seed)
    if data is not None:
        return open_samples(
            data, inputs, source.preprocess, limit=limit, seed=seed, least=FEWEST, labels=source.labels
        )
    if isinstance(source, ModelSpec) and source.dataset:
        return shipped_samples(source.dataset, "train", inputs, source.preprocess, limit=limit, seed=seed)
    raise UsageError(
        f"expected samples to calibrate {source.name} on, got none; give --data with a folder, zip or npz "
        "(or --synthetic-calibration, which marks every report)"
    )


def _evaluation(
    source: ModelSpec | OnnxFile, inputs: tuple[TensorSpec, ...], eval_data: Path | None, *, seed: int
) -> Samples | None:
    if eval_data is not None:
        samples = open_samples(
            eval_data, inputs, source.preprocess, limit=None, seed=seed, labels=source.labels
        )
        if samples.labels is None:
            raise UsageError(
                f"expected labelled samples in {eval_data.name}, got none with a label; use one sub-folder "
                "per class, file names that begin with the class index, or an npz with 'labels'"
            )
        return samples
    if isinstance(source, ModelSpec) and source.dataset:
        return shipped_samples(source.dataset, "test", inputs, source.preprocess, limit=None, seed=seed)
    return None


def _warnings(calibration: Samples | None, evaluation: Samples | None) -> tuple[str, ...]:
    assumed = dict.fromkeys(
        note for samples in (calibration, evaluation) if samples for note in samples.notes
    )
    if calibration is not None and calibration.source.kind == "synthetic":
        return (
            "Synthetic calibration: the ranges come from noise, so accuracy means nothing.",
            *assumed,
        )
    return tuple(assumed)
