"""What a network amounts to, counted without running it: on torch's meta device, which keeps shapes only.

    multiply-adds = half the floating-point operations of ``torch.utils.flop_counter``

That counts convolutions and matrix products, those of attention between tokens (Q K^T and A V) included;
element-wise work, sums and selective scans count nothing. It is the network as it is trained, on one sample:
what a form computes only for the tokens that select it is counted for all.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BuildError
from .fusible import Fusible
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Census:
    """Sizes of one network, and what of it has a deploy form."""

    parameters: int
    macs: int
    folds: tuple[tuple[str, str], ...]
    """Kind of module and what its ``fused`` says it does, from small to large."""


def census(spec: ModelSpec) -> Census:
    """Count a network.

    Raises:
        BuildError: If it has another number of parameters than its spec says.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        # The counter follows gradients into modules, and stumbles where it finds none.
        module = spec.build().eval().requires_grad_(False)
        shapes = [(i.concrete(batch=1), getattr(torch, i.dtype)) for i in spec.inputs]
        inputs = [torch.empty(shape, dtype=dtype) for shape, dtype in shapes]
    parameters = sum(p.numel() for p in module.parameters())
    if spec.params not in (None, parameters):
        wanted = f"expected {spec.params:,} parameters in {spec.name}"
        message = f"{wanted}, got {parameters:,}; mend the builder or the spec"
        raise BuildError(message)
    counter = FlopCounterMode(display=False)
    with counter:
        module(*inputs)
    return Census(parameters, counter.get_total_flops() // 2, _folds(module))


def _folds(module: nn.Module) -> tuple[tuple[str, str], ...]:
    kinds = {type(m): None for m in module.modules() if isinstance(m, Fusible)}
    found = [(kind.__name__, _first_line(kind)) for kind in kinds]
    return tuple(reversed(found))


def _first_line(kind: type[Fusible]) -> str:
    return (inspect.getdoc(kind.fused) or "").split("\n")[0]
