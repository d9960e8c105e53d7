"""A torch module as a ``Run``, so that parity can ask it the same question as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BuildError
from ..models.spec import TensorSpec
from .artifact import Feed, Run

if TYPE_CHECKING:
    import torch
    from torch import nn


def torch_run(module: nn.Module, inputs: tuple[TensorSpec, ...], outputs: tuple[str, ...] = ()) -> Run:
    """Make a module runnable by names.

    Args:
        module: Taken as it is; put it into evaluation mode before.
        inputs: In the order of its ``forward``.
        outputs: Names of what it returns; without them they are numbered ``output_0`` and so on.

    Returns:
        A function from inputs by name to outputs by name.
    """
    import torch

    def run(feed: Feed) -> Feed:
        arguments = [torch.from_numpy(feed[spec.name].copy()) for spec in inputs]
        with torch.no_grad():
            tensors = flatten(module(*arguments))
        names = outputs or tuple(f"output_{i}" for i in range(len(tensors)))
        if len(names) != len(tensors):
            message = (
                f"expected a network with the outputs {', '.join(names)}, "
                f"got one that returns {len(tensors)} tensors; name every output"
            )
            raise BuildError(message)
        return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}

    return run


def flatten(returned: object) -> list[torch.Tensor]:
    """Give the tensors that a ``forward`` returned, in the order the exporter gives them.

    Raises:
        BuildError: If something in it is not a tensor.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    leaves: list[object] = [leaf for leaf in tree_leaves(returned) if leaf is not None]
    wrong = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
    if wrong or not leaves:
        kind = type(wrong[0] if wrong else returned).__name__
        message = (
            f"expected a network that returns tensors, got {kind}; wrap it so that it returns tensors only"
        )
        raise BuildError(message)
    return [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
