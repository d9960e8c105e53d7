"""What exporters compute of sizes, settled while lowering: a free size is at least 1, so it is never -1.

Where(Equal(shape, -1), 1, shape)  ->  the shape, with 1 where it says -1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....export.artifact import Array
from .call import Call, Given, Held, fixed, known, rank_of
from .elementwise import chosen, combine, operands
from .folded import Folded
from .sizes import entries, vector
from .weight import Weight


def equal(c: Call) -> Held:
    """Compare for equality; now, where both are sizes and the answer does not depend on the run."""
    one, other = _sizes(c.held(0)), _sizes(c.held(1))
    settled = None if one is None or other is None else _compared(one, other)
    return combine(c, "equal", *operands(c)) if settled is None else settled


def where(c: Call) -> Held:
    """Choose by a condition; a choice among sizes stays a shape."""
    condition, one, other = c.array(0), _sizes(c.held(1)), _sizes(c.held(2))
    if condition is None or condition.ndim != 1 or one is None or other is None:
        return chosen(c, c.var(0), c.var(1), c.var(2))
    rows = zip(*_alike(condition.tolist(), one, other), strict=True)
    picked = [first if told else second for told, first, second in rows]
    if not all(fixed(dim) or dim in c.scope.symbols.values() for dim in picked):
        return chosen(c, c.var(0), c.var(1), c.var(2))
    return vector(c, picked, c.scope.sources)


def _sizes(held: Given) -> list[Any] | None:
    """Read a vector of whole numbers as sizes and symbols; None for everything else."""
    if held is None or isinstance(held, Weight | Folded) or rank_of(held) != 1:
        return None
    array = known(held)
    return None if array is not None and array.dtype.kind != "i" else entries(held)


def _compared(one: Sequence[Any], other: Sequence[Any]) -> Array | None:
    """Compare sizes one by one; None when a run decides."""
    found = [_same(a, b) for a, b in zip(*_alike(one, other), strict=True)]
    return None if None in found else np.array(found, bool)


def _same(a: Any, b: Any) -> bool | None:
    if fixed(a) and fixed(b):
        return int(a) == int(b)
    if a == b:
        return True
    size, number = (a, b) if fixed(b) else (b, a)
    if fixed(number) and int(number) < 1 and _positive(size):
        return False
    return None


def _positive(size: Any) -> bool:
    """Recognise a product of free sizes and whole numbers."""
    return all(part.is_Symbol or (part.is_Integer and part > 0) for part in size.as_ordered_factors())


def _alike(*vectors: Sequence[Any]) -> list[Sequence[Any]]:
    """Repeat vectors of one element to the length of the others."""
    longest = max(len(one) for one in vectors)
    return [list(one) * longest if len(one) == 1 else one for one in vectors]
