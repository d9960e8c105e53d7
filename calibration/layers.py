"""What the weights of a layer allow, and what its arithmetic is worth."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..export.artifact import Array
from .graph import WEIGHTED, constant
from .scheme import QdqStyle


def has_weights(node: ir.Node) -> bool:
    """Tell whether a node multiplies by constant weights."""
    return node.op_type in WEIGHTED and constant(node.inputs[1]) is not None


def multiplications(node: ir.Node) -> int:
    """Count the multiplications behind one output value of a node with weights; 0 when unknown."""
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim < 2:
        return 0
    if node.op_type == "MatMul":
        return int(weight.shape[-2])
    if node.op_type == "Gemm":
        return int(weight.shape[1 if node.attributes.get_int("transB", 0) else 0])
    if node.op_type == "ConvTranspose":
        return int(weight.shape[0]) // node.attributes.get_int("group", 1)
    return int(np.prod(weight.shape[1:]))


def unfit_weights(node: ir.Node, style: QdqStyle) -> str:
    """Say why a node of ``WEIGHTED`` cannot compute in integers, or ``""``."""
    weight = constant(node.inputs[1])
    if constant(node.inputs[0]) is not None:
        return "its weights stand on the left"
    if weight is None:
        return _unfit_product(node, style)
    if weight.dtype != np.float32 or weight.ndim < 2:
        return f"its weights are {weight.dtype} of shape {weight.shape}"
    if not np.isfinite(weight).all():
        return "a weight is not finite"
    if node.op_type == "Gemm" and (node.attributes.get_int("transA", 0) or _scaled(node)):
        return "it transposes its input or scales its answer"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and style.quantize_bias and _unfit_bias(constant(bias)):
        return "its bias is not a constant vector"
    return ""


def _unfit_product(node: ir.Node, style: QdqStyle) -> str:
    if node.op_type != "MatMul" or not style.activation_products:
        return "its weights are not constant"
    makers = [v.producer() for v in node.inputs if v is not None]
    # Most attention weights are smaller than one step of a grid that reaches up to the largest.
    attends = any(m is not None and m.op_type == "Softmax" for m in makers)
    return "it multiplies by attention weights, which 8 bits represent poorly" if attends else ""


def _scaled(node: ir.Node) -> bool:
    return any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))


def _unfit_bias(bias: Array | None) -> bool:
    return bias is None or bias.ndim != 1 or not np.isfinite(bias).all()
