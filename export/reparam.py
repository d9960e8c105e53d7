"""From the form a network was trained in to the form it is deployed in, proven equal in the same step.

Every ``Fusible`` module is replaced by its deploy form, and a convolution followed by a BatchNorm in an
``nn.Sequential`` becomes one convolution.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import cast

from torch import nn

from ..models.fuse import affine_of, scale_outputs
from ..models.fusible import Fusible
from ..models.spec import TensorSpec
from .artifact import Refusal, Step
from .check import check
from .parity import require
from .torch_run import torch_run

_Conv = nn.Conv1d | nn.Conv2d
_Norm = nn.BatchNorm1d | nn.BatchNorm2d
_PAIRS = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))


def reparameterize(
    module: nn.Module, inputs: tuple[TensorSpec, ...], *, seed: int = 0
) -> tuple[nn.Module, Step]:
    """Fold a copy of the network, and prove it equal to the network on fresh random inputs.

    Args:
        module: The network; it stays as it is. Dropout and BatchNorm are taken in evaluation mode.
        inputs: Its inputs.
        seed: Of the inputs.

    Returns:
        The folded copy in evaluation mode, and the step with what was folded, what was not, and the parity.

    Raises:
        VerdictError: If a fold changed the function.
    """
    start = time.perf_counter()
    reference = copy.deepcopy(module).eval()
    folded, changed, refusals = fold(reference)
    parities = check(
        "fold",
        torch_run(reference, inputs),
        torch_run(folded, inputs),
        inputs,
        names=("torch", "folded torch"),
        seed=seed,
    )
    require(parities, "reparameterize")
    detail = f"{changed} modules took their deploy form, {len(refusals)} declined"
    seconds = time.perf_counter() - start
    return folded, Step("reparameterize", detail, changed, None, seconds, refusals, parities)


def fold(module: nn.Module) -> tuple[nn.Module, int, tuple[Refusal, ...]]:
    """Fold a copy of the network, without proof.

    Returns:
        The folded copy in evaluation mode, how many modules were folded, and why others were not.
    """
    copied = copy.deepcopy(module).eval()
    walk = _Walk(copied)
    return walk.fold(copied, "").eval(), walk.changed, tuple(walk.refusals)


class _Walk:
    """One visit of every module, counting what was done and keeping the reasons for what was not."""

    def __init__(self, root: nn.Module) -> None:
        self.changed = 0
        self.refusals: list[Refusal] = []
        self._uses = _count_uses(root)
        # A module used in two places is folded once, so that both places keep sharing it.
        self._folded: dict[nn.Module, nn.Module] = {}

    def fold(self, module: nn.Module, path: str) -> nn.Module:
        if module not in self._folded:
            self._folded[module] = self._fold(module, path)
        return self._folded[module]

    def _fold(self, module: nn.Module, path: str) -> nn.Module:
        # A child that happens to be called "fused" is not meant, only a method of the class.
        if isinstance(module, Fusible) and callable(getattr(type(module), "fused", None)):
            self.changed += 1
            return module.fused()
        if type(module) is nn.Sequential:
            self._fold_pairs(module, path)
        for name, child in _children(module):
            setattr(module, name, self.fold(child, _join(path, name)))
        return module

    def _fold_pairs(self, chain: nn.Sequential, path: str) -> None:
        for (first, conv), (second, norm) in pairwise(_children(chain)):
            if not isinstance(norm, _Norm) or not isinstance(conv, _Conv):
                continue
            reason = _why_not(conv, norm) or self._shared(conv, norm)
            if reason:
                self.refusals.append(Refusal(_join(path, second), reason))
                continue
            setattr(chain, first, _folded(conv, norm))
            setattr(chain, second, nn.Identity())
            self.changed += 1

    def _shared(self, conv: _Conv, norm: _Norm) -> str:
        shared = self._uses[id(conv)] > 1 or self._uses[id(norm)] > 1
        return "the convolution or the BatchNorm is used in a second place" if shared else ""


def _why_not(conv: _Conv, norm: _Norm) -> str:
    if (type(conv), type(norm)) not in _PAIRS:
        return (
            f"{type(conv).__name__} and {type(norm).__name__} are not a plain convolution and its BatchNorm"
        )
    if norm.running_mean is None:
        return "the BatchNorm keeps no running statistics, so its scale depends on the batch"
    if any(vars(m)[hooks] for m in (conv, norm) for hooks in ("_forward_hooks", "_forward_pre_hooks")):
        return "a forward hook sits on the convolution or the BatchNorm"
    if norm.num_features != conv.out_channels:
        return f"the BatchNorm has {norm.num_features} channels, the convolution {conv.out_channels}"
    return ""


def _folded(conv: _Conv, norm: _Norm) -> _Conv:
    weight, bias = scale_outputs(conv.weight, conv.bias, *affine_of(norm))
    made = copy.deepcopy(conv)
    made.weight, made.bias = nn.Parameter(weight), nn.Parameter(bias)
    return made


def _count_uses(root: nn.Module) -> Counter[int]:
    found = cast("Iterable[tuple[str, nn.Module]]", root.named_modules(remove_duplicate=False))
    return Counter(id(module) for _, module in found)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    # named_children() leaves out a child that stands under two names.
    children = cast("Mapping[str, nn.Module | None]", vars(module)["_modules"])
    return [(name, child) for name, child in children.items() if child is not None]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
