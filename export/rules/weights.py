"""Scaling and shifting the constant weights of convolutions and matrix products, shared by the folds.

All sums are float64 and rounded once. Axis letters: O output channels, I input channels, K kernel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..artifact import Array
from .graph import constant, float_array, input_of, integer, is_op, set_constant, sole_user

HOSTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with weights at input 1; all but MatMul may have a bias at input 2."""


def why_not_foldable(host: ir.Node) -> str:
    """Say why the weights of a node may not be changed together with its answer, or ``""``."""
    if sole_user(host.outputs[0]) is None:
        return f"the answer of {host.op_type} {host.name} is read in a second place"
    return why_not_editable(host)


def why_not_editable(host: ir.Node) -> str:
    """Say why the weights of a node may not be changed, or ``""``."""
    weights = constant(input_of(host, 1))
    if weights is None:
        return f"the weights of {host.op_type} {host.name} are not constants"
    if weights.dtype.kind != "f":
        return f"the weights of {host.op_type} {host.name} are {weights.dtype}, not floating point"
    if not _alone(host.inputs[1]):
        return f"the weights of {host.op_type} {host.name} are shared with another node"
    bias = constant(input_of(host, 2))
    if input_of(host, 2) is not None and bias is None:
        return f"the bias of {host.op_type} {host.name} is not a constant"
    if bias is not None and bias.ndim > 1 and bias.shape[0] > 1:
        return f"the bias of {host.op_type} {host.name} differs from row to row"
    if is_op(host, "ConvTranspose") and integer(host, "group", 1) != 1:
        return f"ConvTranspose {host.name} is grouped"
    if is_op(host, "Gemm") and not _plain(host):
        return f"Gemm {host.name} has factors alpha or beta"
    if is_op(host, "MatMul") and weights.ndim != 2:
        return f"the weights of MatMul {host.name} have {weights.ndim} dimensions"
    return ""


def output_axis(host: ir.Node) -> int:
    """Give the axis of the weights that counts output channels."""
    if is_op(host, "ConvTranspose"):
        return 1
    if is_op(host, "Gemm"):
        return 0 if integer(host, "transB", 0) else 1
    return 1 if is_op(host, "MatMul") else 0


def scale_outputs(host: ir.Node, scale: Array, shift: Array | None = None) -> None:
    """Make a node compute ``scale * y + shift`` instead of ``y``.

    Args:
        host: Editable, see ``why_not_editable``. A MatMul takes no shift.
        scale: (O,) or ().
        shift: (O,) or ().
    """
    weights = constant(host.inputs[1])
    assert weights is not None
    axis = output_axis(host)
    shape = [1] * weights.ndim
    shape[axis] = -1
    scaled = float_array(weights) * np.reshape(scale, shape if np.ndim(scale) else [1] * weights.ndim)
    old = constant(input_of(host, 2))
    set_constant(host, 1, scaled.astype(weights.dtype), f"{host.name}.weight")
    if old is None and shift is None:
        return
    bias = float_array(old) * scale if old is not None else np.zeros(())
    # A Gemm may have a bias of shape (1, O); a new bias is always (O,).
    total = bias + (shift if shift is not None else 0.0)
    if total.ndim == 0 or total.shape[-1] == 1:
        total = np.broadcast_to(total, (weights.shape[axis],))
    set_constant(host, 2, total.astype(weights.dtype), f"{host.name}.bias")


def scale_inputs(host: ir.Node, scale: Array) -> None:
    """Make a node compute its answer to ``scale * x`` instead of ``x``.

    Args:
        host: Editable, see ``why_not_editable``.
        scale: (I,) or ().
    """
    weights = constant(host.inputs[1])
    assert weights is not None
    factor = scale if scale.ndim == 0 else _along_inputs(host, scale, weights)
    set_constant(host, 1, (float_array(weights) * factor).astype(weights.dtype), f"{host.name}.weight")


def _along_inputs(host: ir.Node, scale: Array, weights: Array) -> Array:
    """Lay (I,) along the input channels of the weights."""
    if is_op(host, "Conv"):
        # Grouped weights are (O, I/G, K...): every group of outputs has its own slice of the inputs.
        groups = scale.reshape(integer(host, "group", 1), weights.shape[1])
        rows = np.repeat(groups, weights.shape[0] // groups.shape[0], axis=0)
        return rows.reshape(*rows.shape, *[1] * (weights.ndim - 2))
    shape = [1] * weights.ndim
    shape[1 - output_axis(host)] = -1
    return scale.reshape(shape)


def _alone(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def _plain(gemm: ir.Node) -> bool:
    factors = (gemm.attributes.get_float("alpha", 1.0), gemm.attributes.get_float("beta", 1.0))
    return factors == (1.0, 1.0)
