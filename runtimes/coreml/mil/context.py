"""What a running evaluation offers to the few operators that need more than their arguments."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .values import Declared, Value


@dataclass(frozen=True)
class Context:
    """Handed to operators with blocks, states or chance, and to those whose output type is only declared."""

    blocks: tuple[Callable[..., tuple[Value, ...]], ...]
    """The operator's blocks, as functions from their inputs to their outputs."""
    outputs: tuple[Declared, ...]
    """The declared types of the operator's outputs."""
    states: MutableMapping[str, Tensor]
    """What the program's states hold, by the name of the state."""
    chance: torch.Generator
    """Of everything drawn at random; starts from the same seed at every run."""
