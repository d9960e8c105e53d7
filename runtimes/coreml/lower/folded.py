"""Tensors of more than five dimensions, which Core ML does not have, kept in fewer in the same order.

A reshape only folds them; a transpose moves groups of neighbouring axes as one; a reduction merges the axes
between those that it removes. Whatever else reads such a tensor refuses it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .call import Call, Var

MOST_DIMENSIONS = 5


@dataclass(frozen=True)
class Folded:
    """Elements in row-major order, and the shape that they stand for."""

    var: Any
    """Of any shape with as many elements."""
    shape: tuple[Any, ...]


def transposed(c: Call, x: Folded, order: Sequence[int]) -> Folded:
    """Reorder axes with transposes of at most five dimensions."""
    shape = tuple(x.shape[axis] for axis in order)
    real = [axis for axis in order if x.shape[axis] != 1]
    groups = _runs(real, [axis for axis in range(len(x.shape)) if x.shape[axis] != 1])
    if len(groups) <= MOST_DIMENSIONS:
        return Folded(_moved(c, x.var, x.shape, groups), shape)
    return Folded(_step_by_step(c, x, order), shape)


def _runs(order: Sequence[int], axes: Sequence[int]) -> list[list[int]]:
    """Group axes that stand side by side before and after."""
    after = dict(itertools.pairwise(axes))
    groups: list[list[int]] = []
    for axis in order:
        if groups and after.get(groups[-1][-1]) == axis:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _moved(c: Call, var: Var, shape: Sequence[Any], groups: list[list[int]]) -> Var:
    """Bring groups of axes into the order in which they are listed."""
    from .sizes import reshape

    before = sorted(groups)
    if before == groups:
        return var
    merged = reshape(c, var, [math.prod(shape[axis] for axis in group) for group in before])
    return c.mb.transpose(x=merged, perm=[before.index(group) for group in groups])


def _step_by_step(c: Call, x: Folded, order: Sequence[int]) -> Var:
    """Bring one axis after the other to its place, past all that stand before it."""
    now, var = list(range(len(order))), x.var
    for place, axis in enumerate(order):
        if now[place] == axis:
            continue
        at = now.index(axis)
        dims = [x.shape[a] for a in now]
        groups = [list(range(place)), [at], list(range(place, at)), list(range(at + 1, len(now)))]
        var = _moved(c, var, dims, [group for group in groups if group])
        now.insert(place, now.pop(at))
    return var


def merged(c: Call, x: Folded, axes: Sequence[int]) -> tuple[Var, list[int], list[Any]]:
    """Merge neighbouring axes that are all kept, or all removed.

    Args:
        c: The node.
        x: What is reduced.
        axes: Those to be removed.

    Returns:
        The tensor in fewer dimensions, the axes to remove from it, and the whole shape with ones in their
        place.
    """
    from .call import Unsupported
    from .sizes import reshape

    removed = {axis % len(x.shape) for axis in axes}
    groups: list[list[int]] = []
    for axis in range(len(x.shape)):
        if groups and (groups[-1][-1] in removed) == (axis in removed):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) > MOST_DIMENSIONS:
        message = f"a reduction of {len(x.shape)} dimensions"
        raise Unsupported(message)
    dims = [math.prod(x.shape[axis] for axis in group) for group in groups]
    gone = [i for i, group in enumerate(groups) if group[0] in removed]
    kept = [1 if axis in removed else dim for axis, dim in enumerate(x.shape)]
    return reshape(c, x.var, dims), gone, kept
