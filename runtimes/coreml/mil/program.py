"""A saved Core ML program, evaluated operator by operator: what does this package say?

``rounding="as-written"`` rounds the result of every operator that the program declares fp16 to fp16;
``rounding="fp32"`` leaves every result in float32, so that the difference between the two is what fp16
costs. Constants are what the package stores, and compressed weights what they decompress to, in both. It
checks conversion and compression, not Apple's kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ....errors import UsageError, unknown_name
from ....export.artifact import Array, Feed
from ....models.spec import TensorSpec
from ...sessions import check_feed
from .evaluate import Evaluation, Scope
from .interface import Interface, as_checked, complete, interface, to_array, to_value
from .package import damaged, read_package
from .settle import settle
from .steps import Block, Compiler, Constant
from .values import Declared, Value, declared

Rounding = Literal["as-written", "fp32"]


@dataclass(frozen=True)
class Program:
    """One function of a package, ready to be evaluated."""

    name: str
    interface: Interface
    block: Block
    types: Mapping[str, Declared]
    """Of the inputs and states, as the program declares them."""
    constants: Mapping[str, Constant]
    counts: Mapping[tuple[str, str], int]
    """How many operators there are, by kind and declared type of the result (``"float16"``, ...)."""
    unknown: Mapping[str, str]
    """Kinds of operators that cannot be evaluated, each with the name of the first."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What ``run`` takes."""
        return tuple(feature.spec for feature in self.interface.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What ``run`` gives."""
        return tuple(feature.spec for feature in self.interface.outputs)

    def fresh_states(self) -> dict[str, Tensor]:
        """Give every state of the program as zeros, to be handed to consecutive runs."""
        return {
            name: torch.zeros([s or 1 for s in self.types[name].shape or ()])
            for name in self.interface.states
        }

    def run(
        self,
        feed: Feed,
        *,
        rounding: Rounding = "as-written",
        trace: Collection[str] = (),
        states: MutableMapping[str, Tensor] | None = None,
    ) -> dict[str, Array]:
        """Evaluate the program.

        Args:
            feed: Every input by name; a picture as uint8 pixels of shape (1, C, H, W), red first.
            rounding: See on top.
            trace: Names of further tensors to give; of a tensor in a loop, its last value.
            states: What the states hold before, and after; fresh ones when not given.

        Returns:
            Every output by name, in new arrays, and the traced tensors.

        Raises:
            UsageError: If an input does not fit, or the rounding or a traced name is not known.
            BuildError: If the program has an operator that is not known, or one fails.
        """
        self._require_known()
        if rounding not in get_args(Rounding):
            raise unknown_name(kind="rounding", name=rounding, known=get_args(Rounding))
        checked = check_feed(complete(feed, self.interface), as_checked(self.interface))
        kept = self.fresh_states() if states is None else states
        run = Evaluation(rounding == "as-written", kept, frozenset(trace))
        with torch.inference_mode():
            scope = self._scope(checked, run)
            results = run.block(self.block, scope)
            named = dict(zip(self.block.output_names, results, strict=True))
            answer = {f.spec.name: to_array(named[f.source], f) for f in self.interface.outputs}
            return answer | {name: self._traced(name, run) for name in trace}

    def _require_known(self) -> None:
        if self.unknown:
            listed = ", ".join(f"{kind} (first at {name!r})" for kind, name in sorted(self.unknown.items()))
            raise damaged(self.name, "operators that are known here", listed, "they cannot be evaluated")

    def _scope(self, feed: Mapping[str, Array], run: Evaluation) -> Scope:
        scope: Scope = {name: name for name in self.interface.states}
        for feature in self.interface.inputs:
            name = feature.spec.name
            value = settle(to_value(feed[name], feature), self.types[name], rounding=run.rounding)
            scope[name] = value
            if name in run.wanted:
                run.traced[name] = value
        return scope

    def _traced(self, name: str, run: Evaluation) -> Array:
        value: Value | None = run.traced.get(name)
        if value is None and name in self.constants:
            value = self.constants[name].value
        if value is None:
            raise unknown_name(kind="tensor", name=name, known=self.names())
        if not isinstance(value, Tensor):
            message = f"expected the name of a tensor to trace, got {name!r}, a {type(value).__name__}"
            raise UsageError(message)
        return value.detach().numpy().copy()

    def names(self) -> tuple[str, ...]:
        """List every tensor that can be traced, in the order of the program."""
        return tuple(dict.fromkeys((*self.types, *_names_in(self.block), *self.constants)))


def load_program(path: Path, *, function: str = "") -> Program:
    """Load one function of a saved ``.mlpackage`` (or an ``.mlmodel`` that holds an ML Program).

    Args:
        path: The package.
        function: Name of the function; the default one when empty.

    Raises:
        UsageError: If there is no such file or function, or the model is of another kind.
        BuildError: If the package is damaged.
        UnavailableError: If coremltools is not installed.
    """
    package = read_package(path)
    program: Any = package.specification.mlProgram
    chosen = function or package.specification.description.defaultFunctionName or "main"
    if chosen not in program.functions:
        raise unknown_name(kind="function", name=chosen, known=program.functions)
    body = program.functions[chosen]
    if body.opset not in body.block_specializations:
        raise damaged(path.name, f"a body for opset {body.opset!r}", "none")
    types = {i.name: declared(i.type, f"{path.name}, {i.name!r}") for i in body.inputs}
    compiler = Compiler(package)
    block = compiler.block(body.block_specializations[body.opset])
    _check_whole(path, block, types, compiler)
    return Program(
        path.name,
        interface(package, chosen, body),
        block,
        types,
        compiler.constants,
        compiler.counts,
        compiler.unknown,
    )


def _check_whole(path: Path, block: Block, types: Mapping[str, Declared], compiler: Compiler) -> None:
    if not compiler.unknown and (lost := sorted(block.reads - types.keys())):
        raise damaged(path.name, f"an operator that computes {lost[0]!r}", "none")


def _names_in(block: Block) -> tuple[str, ...]:
    names: list[str] = []
    for step, _ in block.steps:
        names += [output.name for output in step.outputs]
        for inner in step.blocks:
            names += _names_in(inner)
    return tuple(names)
