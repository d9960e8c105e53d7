"""From a block of operations to steps that can be taken one after another.

Constants and everything made of constants alone by a ``constexpr_`` operator (decompressed weights) are read
when first asked for, and kept; every other value is forgotten after its last reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from ....errors import BuildError
from ...sessions import reason
from .package import Package, damaged
from .settle import settle
from .signature import Convert, Function, Signature, signature
from .table import OPERATORS
from .values import Declared, Value, constant, declared


class Constant:
    """A value that no input changes."""

    def __init__(self, load: Callable[[], Value]) -> None:
        self.load = load
        """Reads or computes it anew."""

    @cached_property
    def value(self) -> Value:
        """The value, kept from the first time on."""
        return self.load()


@dataclass
class Given:
    """One argument whose parts are all constants; converted once."""

    parts: tuple[Constant, ...]
    convert: Convert

    @cached_property
    def converted(self) -> Any:
        """What the function is handed."""
        return self.convert(tuple(part.value for part in self.parts))

    def fresh(self) -> Any:
        """Read and convert it anew, keeping nothing."""
        return self.convert(tuple(part.load() for part in self.parts))


@dataclass(frozen=True)
class Asked:
    """One argument with parts that other steps compute."""

    parts: tuple[str | Constant, ...]
    convert: Convert


@dataclass(frozen=True)
class Output:
    """Name and declared type of one result."""

    name: str
    type: Declared


@dataclass(frozen=True)
class Step:
    """One operator, ready to be computed."""

    kind: str
    name: str
    function: Function
    signature: Signature
    arguments: Mapping[str, Given | Asked]
    outputs: tuple[Output, ...]
    blocks: tuple[Block, ...]
    reads: frozenset[str]
    """Names of computed values it needs, those of its blocks included."""

    def error(self, why: BaseException) -> BuildError:
        """Say in one sentence where an evaluation stopped."""
        return BuildError(
            f"expected operator {self.name!r} ({self.kind}) to evaluate, got: {reason(why)}; "
            "mend the conversion that wrote it"
        )


@dataclass(frozen=True)
class Block:
    """Steps in order, each with the names that nobody reads after it."""

    inputs: tuple[Output, ...]
    steps: tuple[tuple[Step, tuple[str, ...]], ...]
    outputs: tuple[str | Constant, ...]
    output_names: tuple[str, ...]

    @property
    def reads(self) -> frozenset[str]:
        """Names that come from outside of the block."""
        made = {output.name for output in self.inputs}
        needed: set[str] = set()
        for step, _ in self.steps:
            needed |= step.reads - made
            made |= {output.name for output in step.outputs}
        return frozenset(needed | {name for name in self.outputs if isinstance(name, str)} - made)


@dataclass
class Compiler:
    """Turns operations into steps; knows the constants met so far by name."""

    package: Package
    constants: dict[str, Constant] = field(default_factory=dict[str, Constant])
    unknown: dict[str, str] = field(default_factory=dict[str, str])
    """Operators that are not in the table: kind, and the name of the first."""
    counts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """How many operators there are, by kind and type of the first output."""

    def block(self, message: Any) -> Block:
        """Compile a block and those inside it.

        Raises:
            BuildError: If an operation does not hold together.
        """
        inputs = tuple(self._output(named) for named in message.inputs)
        for named in inputs:
            self.constants.pop(named.name, None)
        steps = [step for op in message.operations if (step := self._operation(op)) is not None]
        names: tuple[str, ...] = tuple(message.outputs)
        outputs = tuple(self._source(name) for name in names)
        kept = {source for source in outputs if isinstance(source, str)}
        return Block(inputs, _with_ends(steps, kept), outputs, names)

    def _operation(self, op: Any) -> Step | None:
        name = _name_of(op)
        outputs = tuple(self._output(named) for named in op.outputs)
        if op.type == "const":
            self._constant(op, outputs, name)
            return None
        kind = outputs[0].type.dtype if outputs else "none"
        self.counts[op.type, kind] = self.counts.get((op.type, kind), 0) + 1
        blocks = tuple(self.block(inner) for inner in op.blocks)
        function = OPERATORS.get(op.type)
        if function is None:
            self.unknown.setdefault(op.type, name)
            return None
        step = self._step(op, name, function, outputs, blocks)
        if op.type.startswith("constexpr_"):
            self._fold(step)
            return None
        for output in outputs:
            self.constants.pop(output.name, None)
        return step

    def _constant(self, op: Any, outputs: tuple[Output, ...], name: str) -> None:
        if len(outputs) != 1 or "val" not in op.attributes:
            raise damaged(self.package.path.name, f"a value in the constant {name!r}", "none")
        held = op.attributes["val"]
        self.constants[outputs[0].name] = Constant(lambda: constant(held, self.package))

    def _step(
        self, op: Any, name: str, function: Function, outputs: tuple[Output, ...], blocks: tuple[Block, ...]
    ) -> Step:
        told = signature(function)
        arguments = {
            parameter: self._argument(argument, self._convert(parameter, told, op.type, name))
            for parameter, argument in op.inputs.items()
        }
        if op.type.startswith("constexpr_"):
            # Before iOS18 what is compressed is written as attributes.
            for parameter, held in op.attributes.items():
                if parameter != "name":
                    kept = Constant(partial(constant, held, self.package))
                    arguments[parameter] = Given((kept,), self._convert(parameter, told, op.type, name))
        if lacking := sorted(told.required - arguments.keys()):
            raise damaged(self.package.path.name, f"the input {lacking[0]!r} of {op.type} {name!r}", "none")
        reads = {p for a in arguments.values() if isinstance(a, Asked) for p in a.parts if isinstance(p, str)}
        for block in blocks:
            reads |= block.reads
        return Step(op.type, name, function, told, arguments, outputs, blocks, frozenset(reads))

    def _convert(self, parameter: str, told: Signature, kind: str, name: str) -> Convert:
        if parameter not in told.convert:
            wanted = f"inputs of {kind} as iOS15 to iOS18 have them at {name!r}"
            raise damaged(self.package.path.name, wanted, f"{parameter!r}", "it cannot be evaluated")
        return told.convert[parameter]

    def _argument(self, argument: Any, convert: Convert) -> Given | Asked:
        parts = tuple(self._part(binding) for binding in argument.arguments)
        if not parts:
            raise damaged(self.package.path.name, "a value for every input", "none")
        fixed = tuple(part for part in parts if isinstance(part, Constant))
        return Given(fixed, convert) if len(fixed) == len(parts) else Asked(parts, convert)

    def _part(self, binding: Any) -> str | Constant:
        if binding.WhichOneof("binding") == "name":
            return self._source(binding.name)
        held = binding.value
        return Constant(lambda: constant(held, self.package))

    def _source(self, name: str) -> str | Constant:
        known = self.constants.get(name)
        return name if known is None else known

    def _fold(self, step: Step) -> None:
        """Make a decompression a constant; what it is made of is read then and not kept."""
        if not all(isinstance(argument, Given) for argument in step.arguments.values()):
            raise damaged(
                self.package.path.name, f"constants for {step.kind} {step.name!r}", "computed values"
            )
        given = {name: a for name, a in step.arguments.items() if isinstance(a, Given)}

        def load(place: int) -> Value:
            try:
                handed = {name: argument.fresh() for name, argument in given.items()}
                made = step.function(**handed)
                value: Value = made if len(step.outputs) == 1 else made[place]
                return settle(value, step.outputs[place].type, rounding=True)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise step.error(error) from error

        for place, output in enumerate(step.outputs):
            self.constants[output.name] = Constant(partial(load, place))

    def _output(self, named: Any) -> Output:
        return Output(named.name, declared(named.type, f"{self.package.path.name}, {named.name[:80]!r}"))


def _name_of(op: Any) -> str:
    if "name" in op.attributes:
        strings = op.attributes["name"].immediateValue.tensor.strings.values
        if strings:
            return str(strings[0])[:120]
    return op.outputs[0].name[:120] if op.outputs else op.type[:120]


def _with_ends(steps: Iterable[Step], kept: set[str]) -> tuple[tuple[Step, tuple[str, ...]], ...]:
    """Add to each step the names whose last reader it is (or that nobody reads at all)."""
    seen = set(kept)
    backwards: list[tuple[Step, tuple[str, ...]]] = []
    for step in reversed(list(steps)):
        ending = (step.reads | {output.name for output in step.outputs}) - seen
        seen |= ending
        backwards.append((step, tuple(sorted(ending))))
    return tuple(reversed(backwards))
