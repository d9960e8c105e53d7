"""The one name for folding: a module that knows its deploy form."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Fusible(Protocol):
    """A module whose evaluation forward can be computed by a smaller one."""

    def fused(self) -> nn.Module:
        """Build the deploy form: a new module in evaluation mode with the same input and output.

        The module itself does not change, and the two share no parameters.
        """
        ...
