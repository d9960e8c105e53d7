"""Take the steps of a block, one after another."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ....errors import BuildError
from .context import Context
from .settle import settle
from .steps import Asked, Block, Constant, Given, Step
from .values import Value

Scope = dict[str, Value]


@dataclass
class Evaluation:
    """One run of a program."""

    rounding: bool
    """Whether what is declared fp16 is rounded to it."""
    states: MutableMapping[str, Tensor]
    wanted: frozenset[str] = frozenset()
    """Names whose values are kept in ``traced``."""
    traced: Scope = field(default_factory=dict[str, Value])
    chance: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def block(self, block: Block, scope: Scope) -> tuple[Value, ...]:
        """Compute a block; values that end in it are dropped from ``scope`` on the way.

        Raises:
            BuildError: Naming the operator at which it stopped.
        """
        for step, ending in block.steps:
            self._take(step, scope)
            for name in ending:
                scope.pop(name, None)
        return tuple(o.value if isinstance(o, Constant) else scope[o] for o in block.outputs)

    def _take(self, step: Step, scope: Scope) -> None:
        try:
            handed = {name: _handed(argument, scope) for name, argument in step.arguments.items()}
            if step.signature.context:
                handed[step.signature.context] = self._context(step, scope)
            result = step.function(**handed)
            results: tuple[Value, ...] = result if len(step.outputs) != 1 else (result,)
            for output, value in zip(step.outputs, results, strict=True):
                scope[output.name] = settle(value, output.type, rounding=self.rounding)
                if output.name in self.wanted:
                    self.traced[output.name] = scope[output.name]
        except BuildError:
            raise
        except (
            RuntimeError,
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            OverflowError,
            MemoryError,
        ) as error:
            raise step.error(error) from error

    def _context(self, step: Step, scope: Scope) -> Context:
        blocks = tuple(self._callable(block, scope) for block in step.blocks)
        return Context(blocks, tuple(o.type for o in step.outputs), self.states, self.chance)

    def _callable(self, block: Block, scope: Scope) -> Callable[..., tuple[Value, ...]]:
        def call(*values: Value) -> tuple[Value, ...]:
            # A block sees what is around it, and its own names end with it.
            inner = scope | {i.name: value for i, value in zip(block.inputs, values, strict=True)}
            return self.block(block, inner)

        return call


def _handed(argument: Given | Asked, scope: Scope) -> object:
    if isinstance(argument, Given):
        return argument.converted
    return argument.convert(tuple(p.value if isinstance(p, Constant) else scope[p] for p in argument.parts))
