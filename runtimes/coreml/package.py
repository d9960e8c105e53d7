"""From a lowered program to a saved package: which passes run on it, and what it says of itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import BuildError
from ...export.artifact import Exported
from ...export.quiet import quiet
from ...models.spec import TensorSpec
from ..device import Device
from ..sessions import reason, specs_to_json
from .account import account
from .description import describe, introduce
from .lower.graph import Refused
from .lower.program import Lowered, lower
from .sdk import canonical, coremltools, target_of

PACKAGE = "model.mlpackage"

PASSES = (
    # Operators that hand on, and casts there and back, are in the way of every pattern below.
    "cast_optimization",
    "noop_elimination",
    # A tensor that is only moved stays in integers; equal scales on both sides cancel.
    "int_op_canonicalization",
    "dequantize_quantize_pair_elimination",
    "const_elimination",
    # Patterns that other exporters leave: products with a weight, GELU and layer norm in pieces.
    "fuse_matmul_weight_bias",
    "fuse_linear_bias",
    "fuse_gelu_tanh_approximation",
    "fuse_gelu_exact",
    "fuse_squeeze_expand_dims",
    "compose_conv1d",
    "merge_consecutive_paddings",
    "fuse_pad_conv",
    "fuse_conv_bias",
    "fuse_layernorm_or_instancenorm",
    "fuse_elementwise_to_batchnorm",
    "fuse_conv_batchnorm",
    "merge_consecutive_reshapes",
    "merge_consecutive_transposes",
    "fuse_transpose_matmul",
    # After transposes are merged: Core ML takes at most five dimensions, and this one splits what has more.
    "expand_high_rank_reshape_and_transpose",
    "reduce_transposes",
    "remove_symbolic_reshape",
    "remove_redundant_ops",
    "const_deduplication",
    "dead_code_elimination",
    "noop_elimination",
    "dedup_op_and_var_names",
    "dead_code_elimination",
)
"""Of coremltools' own passes, those that find something in our programs; each costs time on every build."""

MOST_DIMENSIONS = 5
MOST_BATCH = 64
"""Largest batch of a package where the device row says nothing."""
MOST_FREE = 1024
"""Largest size of every other free dimension."""


def build(exported: Exported, device: Device, out: Path) -> Path:
    """Lower a network, and save it as a package in the folder ``out``.

    Raises:
        BuildError: If an operator has no exact form in MIL, or coremltools refuses the program.
    """
    path = out / PACKAGE
    with made(path, exported.name):
        lowered = lower(exported, canonical(device.target), target_of(device.target))
        features = [
            _feature(spec, name, device) for spec, name in zip(exported.inputs, lowered.inputs, strict=True)
        ]
        program = convert(lowered, features, device, path)
        _check_dimensions(program)
        describe(path, facts_of(exported, lowered, device, program))
        introduce(path, exported)
    return path


@contextmanager
def made(path: Path, what: str) -> Generator[None]:
    """Make a package off the terminal; what fails leaves nothing of it.

    Args:
        path: Of the package.
        what: Shall be accepted, in the words of the error.

    Raises:
        BuildError: If an operator has no exact form in MIL, or coremltools refuses the program.
    """
    try:
        with quiet():
            yield
    except Exception as error:  # coremltools raises bare exceptions of many kinds
        shutil.rmtree(path, ignore_errors=True)
        why = str(error) if isinstance(error, Refused) else f"coremltools says: {reason(error)}"
        message = f"expected Core ML to accept {what}, got: {why}; change the model"
        raise BuildError(message) from error


def convert(lowered: Lowered, features: Sequence[Any], device: Device, path: Path, **face: Any) -> Any:
    """Run the passes, save, and give the program as it was saved.

    Args:
        lowered: The program.
        features: Its inputs, in coremltools' words.
        device: Gives the oldest system.
        path: Of the package.
        face: Further options of coremltools' ``convert``.
    """
    ct = coremltools()
    model = ct.convert(
        lowered.program,
        source="milinternal",
        convert_to="mlprogram",
        inputs=list(features),
        minimum_deployment_target=target_of(device.target),
        # Precision is what the graph says: nothing is cast that it does not cast.
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline([f"common::{name}" for name in PASSES], "fourfold"),
        skip_model_load=True,
        package_dir=str(path),
        **face,
    )
    return model._mil_program


def _feature(spec: TensorSpec, name: str, device: Device) -> Any:
    ct = coremltools()
    return ct.TensorType(name=name, shape=tuple(_dim(dim, device) for dim in spec.shape) or (1,))


def _dim(dim: int | str, device: Device) -> Any:
    """Give a free size its range; the usual batch of the row is what an app gets by default."""
    if isinstance(dim, int):
        return dim
    least, usual, most = device.batches or (1, 1, MOST_BATCH)
    if dim != "batch":
        least, usual, most = 1, 1, MOST_FREE
    return coremltools().RangeDim(least, most, default=usual)


def _check_dimensions(program: Any) -> None:
    for operation in program.functions["main"].operations:
        for output in operation.outputs:
            if getattr(output, "rank", 0) > MOST_DIMENSIONS and not operation.op_type.startswith("const"):
                message = (
                    f"{output.name}: a tensor of {output.rank} dimensions; Core ML takes {MOST_DIMENSIONS}"
                )
                raise ValueError(message)


def facts_of(exported: Exported, lowered: Lowered, device: Device, program: Any) -> Mapping[str, str]:
    """Give what a package must say for us to open it."""
    return {
        "fourfold.inputs": specs_to_json(exported.inputs),
        "fourfold.outputs": specs_to_json(exported.outputs),
        "fourfold.features": json.dumps([lowered.inputs, lowered.outputs]),
        "fourfold.precision": exported.precision,
        "fourfold.target": canonical(device.target),
        "fourfold.operators": json.dumps(account(program)),
    }
