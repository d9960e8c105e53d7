"""Branches, loops, lists, states, and the label of a classifier."""

from __future__ import annotations

import torch
from torch import Tensor

from ..context import Context
from ..signature import Ints, Values
from ..values import Dictionary, List, Value

MAX_ROUNDS = 1_000_000
"""Of one loop; a program that needs more does not end in practice."""


def cond(run: Context, pred: bool) -> Value | Values:
    """Take one of two branches."""
    return _unpacked(run.blocks[0 if pred else 1]())


def while_loop(run: Context, loop_vars: Values) -> Value | Values:
    """Repeat a body as long as a condition holds."""
    test, body = run.blocks
    for _ in range(MAX_ROUNDS):
        if not bool(_truth(test(*loop_vars)[0])):
            return _unpacked(loop_vars)
        loop_vars = body(*loop_vars)
    message = f"expected a loop of at most {MAX_ROUNDS} rounds, got more"
    raise ValueError(message)


def make_list(
    elem_shape: Values, init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32"
) -> List:
    """Make a list of zeros; of elements whose shape is only known later, of nothing."""
    sizes = [int(size) for size in elem_shape if isinstance(size, Tensor)]
    blank = torch.zeros(sizes if len(sizes) == len(elem_shape) else [0])
    typed = blank.bool() if dtype == "bool" else blank if dtype in ("fp16", "fp32") else blank.int()
    return List((typed,) * init_length)


def list_length(ls: List) -> Tensor:
    """Count the elements."""
    return torch.tensor(len(ls.items))


def list_read(ls: List, index: int) -> Value:
    """Take one element."""
    return ls.items[index]


def list_write(ls: List, index: int, value: Tensor) -> List:
    """Replace one element; the list grows to hold it."""
    items = list(ls.items)
    while len(items) <= index:
        items.append(torch.zeros_like(value))
    items[index] = value
    return List(tuple(items))


def list_gather(ls: List, indices: Ints) -> Tensor:
    """Join some elements along a new first axis."""
    return torch.stack([item for i in indices if isinstance(item := ls.items[i], Tensor)])


def list_scatter(ls: List, indices: Ints, value: Tensor) -> List:
    """Replace some elements by the parts of a tensor along its first axis."""
    for index, part in zip(indices, value, strict=True):
        ls = list_write(ls, index, part)
    return ls


def read_state(run: Context, input: str) -> Tensor:
    """Take what a state holds."""
    return run.states[input]


def write_state(run: Context, input: str, data: Tensor) -> tuple[()]:
    """Replace what a state holds."""
    run.states[input] = data
    return ()


def classify(probabilities: Tensor, classes: List) -> tuple[Value, Dictionary]:
    """Give the most probable label, and all probabilities by label."""
    flat = probabilities.reshape(-1)
    if flat.numel() != len(classes.items):
        message = f"expected one probability for each of {len(classes.items)} labels, got {flat.numel()}"
        raise ValueError(message)
    names = [str(int(label)) if isinstance(label, Tensor) else str(label) for label in classes.items]
    return classes.items[int(flat.argmax())], Dictionary(dict(zip(names, flat, strict=True)))


def _truth(value: Value) -> Tensor:
    if not isinstance(value, Tensor):
        message = f"expected a truth value, got a {type(value).__name__}"
        raise TypeError(message)
    return value


def _unpacked(values: Values) -> Value | Values:
    return values[0] if len(values) == 1 else values
