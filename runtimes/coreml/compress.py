"""Fewer bits for the weights of a package, through coremltools' own compression.

The network computes as before: Core ML restores each weight when it loads the package. What is stored how is
decided weight by weight (see `stored`), and the package keeps the list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BuildError
from ...export.artifact import Array, Compression, Refusal
from ...export.quiet import quiet
from ..device import Device
from ..runtime import Compressed
from ..sessions import reason
from .account import account
from .description import describe
from .sdk import canonical, coremltools
from .stored import FACT, LEAST, Form, Stored, form_of, to_json, why_not_smaller

_BLOCKS_SINCE = 18
"""First iOS with weights in blocks and in 4 bits."""


def cannot_compress(device: Device, compression: Compression) -> str | None:
    """Say why the oldest system of a device does not take weights in this form, or None."""
    system = canonical(device.target)
    if compression == "int8" or int(system.removeprefix("iOS")) >= _BLOCKS_SINCE:
        return None
    return (
        f"expected a device with iOS {_BLOCKS_SINCE} or macOS 15 for weights in int4 blocks, "
        f"got {device.name} with {device.target or system}; use int8 weights or another device"
    )


def compress(package: Path, compression: Compression, out: Path) -> Compressed:
    """Store the weights of a package in fewer bits, in a new package of that name in ``out``.

    Raises:
        BuildError: If no weight can be, or coremltools refuses the package.
    """
    path = out / package.name
    with quiet():
        model = coremltools().models.MLModel(str(package), skip_model_load=True)
        weights: Mapping[str, Any] = _optimize().get_weights_metadata(model, weight_threshold=LEAST)
    forms = {name: _form(name, weight, compression) for name, weight in weights.items()}
    if not any(isinstance(form, Form) for form in forms.values()):
        message = (
            f"expected a weight of more than {LEAST} values to store in {compression}, got none; "
            "leave the compression out"
        )
        raise BuildError(message)
    stored = dict(_saved(model, weights, forms, path))
    sizes = (size_of(package), size_of(path))
    return Compressed(path, len(stored), sizes, tuple(_kept(weights, forms, stored, compression)))


def size_of(package: Path) -> int:
    """Give the bytes of a package."""
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


def _optimize() -> Any:
    return import_module("coremltools.optimize.coreml")


def _form(name: str, weight: Any, compression: Compression) -> Form | str:
    if weight.val.dtype.kind != "f":
        return "it holds no floats"
    uses = frozenset(
        (str(user.op_type), str(argument))
        for user in weight.child_ops
        for argument, held in user.params_name_mapping.items()
        if held == name
    )
    return form_of(uses, weight.val.shape, compression)


def _saved(
    model: Any, weights: Mapping[str, Any], forms: Mapping[str, Form | str], path: Path
) -> Iterator[tuple[str, Stored]]:
    """Compress, save, and tell what became of every weight."""
    tools = _optimize()
    config = tools.OptimizationConfig()
    for name, form in forms.items():
        config.set_op_name(name, _option(form) if isinstance(form, Form) else None)
    try:
        with quiet():
            smaller = tools.linear_quantize_weights(model, config)
            smaller.save(str(path))
    except Exception as error:  # coremltools raises bare exceptions of many kinds
        message = f"expected coremltools to compress {path.name}, got: {reason(error)}; leave it out"
        raise BuildError(message) from error
    found = dict(_restored(smaller._mil_program, forms))
    told = {name: _told(weights[name], form, found[name]) for name, form in forms.items() if name in found}
    facts = {FACT: to_json(tuple(told.values()))}
    describe(path, facts | {"fourfold.operators": json.dumps(account(smaller._mil_program))})
    yield from told.items()


def _option(form: Form) -> Any:
    granularity = {"granularity": "per_block", "block_size": form.block} if form.block else {}
    return _optimize().OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=f"int{form.bits}", weight_threshold=0, **granularity
    )


def _restored(program: Any, forms: Mapping[str, Form | str]) -> Iterator[tuple[str, Array]]:
    """Give every weight as the program restores it, by the name that it had before."""
    for operation in program.functions["main"].operations:
        name = operation.name.removesuffix("_quantized")
        if operation.op_type.startswith("constexpr_") and name in forms:
            yield name, operation.materialized_val_inference()


def _told(weight: Any, form: Form | str, restored: Array) -> Stored:
    assert isinstance(form, Form), "only what has a form is compressed"
    value: Array = weight.val
    scales = value.size // form.block if form.block else value.shape[0]
    after = value.size * form.bits // 8 + scales * value.itemsize
    return Stored(_user(weight), value.shape, str(form), (value.nbytes, after), _sqnr_db(value, restored))


def _user(weight: Any) -> str:
    return str(weight.child_ops[0].name)


def _sqnr_db(value: Array, restored: Array) -> float:
    exact = value.astype(np.float64)
    noise = float(np.mean((exact - restored.astype(np.float64)) ** 2))
    signal = float(np.mean(exact**2))
    return 10 * math.log10(signal / noise) if noise and signal else math.inf


def _kept(
    weights: Mapping[str, Any],
    forms: Mapping[str, Form | str],
    stored: Mapping[str, Stored],
    compression: Compression,
) -> Iterator[Refusal]:
    for name, form in forms.items():
        shape = weights[name].val.shape
        if isinstance(form, str):
            yield Refusal(_user(weights[name]), form)
        elif name not in stored:
            yield Refusal(_user(weights[name]), "coremltools leaves it as it is")
        elif why := why_not_smaller(form, shape, compression):
            yield Refusal(_user(weights[name]), why)
