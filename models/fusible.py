"""The one name under which a module offers its deploy form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Fusible(Protocol):
    """A module with a smaller form that computes the same."""

    def fused(self) -> nn.Module:
        """Return the deploy form as a new module; the original stays as it is."""
        ...
