"""Why an operator that is no convolution and no linear layer stays electronic."""

from __future__ import annotations

import onnx_ir as ir

TWO_TENSORS = "a product of two tensors that depend on the data: a mask cannot be rewritten for every sample"
SUMS = "sums of few numbers: cheaper where the camera is read than in one more frame"

_OPERATORS: dict[str, tuple[str, ...]] = {
    "moves data and computes nothing": (
        *(
            "Reshape",
            "Transpose",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Slice",
            "Split",
            "Concat",
            "Expand",
            "Tile",
        ),
        *("Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Identity", "Cast", "Pad"),
        *("Shape", "Size", "Constant", "ConstantOfShape", "Range", "Resize", "DepthToSpace", "SpaceToDepth"),
        *("Trilu", "NonZero", "OneHot", "EyeLike"),
    ),
    "not linear: light in a lens only adds": (
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "Erf", "Sigmoid", "HardSigmoid", "HardSwish"),
        *(
            "Swish",
            "Mish",
            "Tanh",
            "Softplus",
            "Softmax",
            "LogSoftmax",
            "Exp",
            "Log",
            "Sqrt",
            "Reciprocal",
            "Pow",
        ),
        *(
            "Abs",
            "Clip",
            "MaxPool",
            "GlobalMaxPool",
            "ReduceMax",
            "ReduceMin",
            "ArgMax",
            "ArgMin",
            "TopK",
            "Round",
        ),
        *("Floor", "Ceil", "Sign", "Not", "And", "Or", "Xor", "Equal", "Greater", "Less", "GreaterOrEqual"),
        *("LessOrEqual", "Where", "Max", "Min", "Sin", "Cos", "Mod"),
    ),
    "divides by statistics of the data: not linear": (
        *("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"),
        *("LpNormalization", "LRN", "ReduceL2"),
    ),
    "one operation a pixel: cheaper where the camera is read than in one more frame": (
        *("Add", "Sub", "Mul", "Div", "Neg", "Sum", "BatchNormalization"),
    ),
    SUMS: (
        *("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Mean", "CumSum"),
    ),
    "control flow runs electronically, with everything in its body": ("If", "Loop", "Scan"),
    "a transposed convolution would light mostly dark pixels: its input is spread with zeros": (
        "ConvTranspose",
    ),
    "a lens transforms fields, but the camera sees no phase: kept exact in electronics": ("DFT",),
    "converts numbers": ("QuantizeLinear", "DequantizeLinear"),
    "queries, keys and values depend on the data: a mask cannot be rewritten for every sample": (
        "Attention",
    ),
    "a contraction that is no convolution with a fixed kernel": ("Einsum",),
}

_REASONS = {operator: reason for reason, operators in _OPERATORS.items() for operator in operators}


def why_electronic(node: ir.Node) -> str:
    """Give the reason by operator."""
    default = f"{node.op_type} is no convolution with a fixed kernel"
    return _REASONS.get(node.op_type, default) if node.domain == "" else default
