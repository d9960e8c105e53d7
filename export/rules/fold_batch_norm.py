"""Fold a BatchNormalization into the convolution or matrix product before it.

Before::

    y = BatchNormalization(Conv(x, W, b), gamma, beta, mean, var)

After::

    y = Conv(x, W * s, (b - mean) * s + beta)          s = gamma / sqrt(var + epsilon), per output channel

Also for Gemm and ungrouped ConvTranspose. It is not folded when someone else reads the convolution's answer
or its weights.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..artifact import Array, Refusal
from .graph import constant, float_array, input_of, integer, nodes_of, producer, redirect, remove_unused
from .weights import scale_outputs, why_not_foldable


class FoldBatchNorm(ir.passes.InPlacePass):
    """Fold BatchNormalization into the weights before it."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = 0
        self.refusals: tuple[Refusal, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold every BatchNormalization that can be folded; the others say why not."""
        for norm in nodes_of(model, "BatchNormalization"):
            reason = _fold(norm)
            if reason:
                self.refusals += (Refusal(norm.name or "", reason),)
            else:
                self.changed += 1
        return ir.passes.PassResult(model, self.changed > 0)


def _fold(norm: ir.Node) -> str:
    if integer(norm, "training_mode", 0) or len(norm.outputs) > 1:
        return "the BatchNormalization is in training mode"
    statistics = [constant(input_of(norm, i)) for i in range(1, 5)]
    host = producer(norm.inputs[0], "Conv", "ConvTranspose", "Gemm")
    if host is None:
        return "no convolution or Gemm stands before the BatchNormalization"
    reason = why_not_foldable(host)
    if reason or any(s is None for s in statistics):
        return reason or "its statistics are not constants"
    scale, shift = _affine(norm, [s for s in statistics if s is not None])
    scale_outputs(host, scale, shift)
    redirect(norm.outputs[0], host.outputs[0])
    remove_unused([norm])
    return ""


def _affine(norm: ir.Node, statistics: list[Array]) -> tuple[Array, Array]:
    gamma, beta, mean, var = (float_array(s) for s in statistics)
    scale = gamma / np.sqrt(var + norm.attributes.get_float("epsilon", 1e-5))
    return scale, beta - mean * scale
