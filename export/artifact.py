"""What flows from the exporter to every device: one graph, its golden answer, and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir

from ..models.spec import Card, TensorSpec

if TYPE_CHECKING:
    from .parity import Parity

Array = np.ndarray  # any shape, any dtype
Feed = Mapping[str, Array]
"""Arrays by tensor name, for inputs and outputs alike."""

Run = Callable[[Feed], Feed]
"""One inference: inputs by name in, outputs by name out."""

Batches = Callable[[int], Iterator[Feed]]
"""``batches(size)`` starts anew at the first sample; the last batch may be smaller."""

Evaluator = Callable[[ir.Model], Run]
"""Makes a graph runnable. Handed in by the harness, since this room knows no engine."""

Precision = Literal["fp32", "fp16", "int8", "analog"]
"""What numbers are made of; ``analog`` numbers are light, as precise as the device."""

Compression = Literal["int8", "int4"]
"""How weights are stored where that is in fewer bits than the network computes with."""


@dataclass(frozen=True)
class Refusal:
    """A step that declined to act somewhere, and why."""

    where: str
    """Name of the node or module."""
    reason: str


@dataclass(frozen=True)
class Step:
    """One entry of the history that the report shows."""

    name: str
    """For example ``"reparameterize"``, ``"to_onnx"``, ``"rewrite: fold_identity"``."""
    detail: str
    """One sentence on what was done."""
    changed: int = 0
    """How many places were changed."""
    nodes: int | None = None
    """Graph nodes after the step; None before there is a graph."""
    seconds: float = 0.0
    refusals: tuple[Refusal, ...] = ()
    parity: tuple[Parity, ...] = ()
    """Equality with the value before the step, one entry per batch size tried."""


@dataclass(frozen=True)
class Golden:
    """Inputs and the float answers of the model they came from."""

    inputs: Feed
    outputs: Feed


@dataclass(frozen=True)
class Exported:
    """One network as one ONNX graph, with everything needed to check it later."""

    name: str
    model: ir.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: Golden
    precision: Precision = "fp32"
    history: tuple[Step, ...] = field(default=())
    compression: Compression | None = None
    """Of the weights of the compiled file, where it stores them in fewer bits than the graph."""
    card: Card = field(default_factory=Card)
    answer: str = ""
    """Name of the output that is scored and labelled; ``""`` means the first."""
    seen: Batches | None = None
    """Real inputs that an analog device is set up on; None where only the golden ones are known."""

    @property
    def kind(self) -> str:
        """Give the kind of parity that the compiled network keeps with the float one."""
        return parity_kind(self.precision, self.compression)

    @property
    def answering(self) -> int:
        """Give the place of the output that is scored and labelled."""
        return [spec.name for spec in self.outputs].index(self.answer) if self.answer else 0

    def after(self, step: Step, model: ir.Model, *, precision: Precision | None = None) -> Exported:
        """Return the value after one more step: the new graph, and the step in the history."""
        return replace(
            self, model=model, history=(*self.history, step), precision=precision or self.precision
        )


def parity_kind(precision: Precision, compression: Compression | None) -> str:
    """Give the key of the table of tolerances for a network whose weights may be compressed."""
    return f"{compression}-weights" if compression else precision
