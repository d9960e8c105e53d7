"""Inputs on the edge of a decision, at which no two evaluations of a network need to agree.

A router keeps the best of its scores. Where two of them are closer than the rounding of float32, the order of
a sum decides, and from there on the answer is another one. Among thousands of decisions per picture, now and
then one is that close, and such an input says nothing about equality. It is recognised from outside, whatever
the network is made of: nudged by about its rounding, the *reference* jumps, where a smooth one hardly moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .artifact import Array, Feed, Run

NUDGE = 2.0**-22
"""Size of a nudge, of the largest entry of an input: two units in its last place."""

NUDGES = 16
"""How many are tried: on an edge, about every second one ends on the other side."""

REDRAWS = 4
"""How many such inputs are put aside for others; a network undecided at all of them has failed."""


def nudged_answers(reference: Run, feed: Feed, *, seed: int) -> Iterator[Feed]:
    """Give the reference's answers at inputs that differ from ``feed`` by about its rounding.

    Integers and booleans stay as they are.
    """
    random = np.random.default_rng(seed)
    for _ in range(NUDGES):
        yield reference({name: _nudged(array, random) for name, array in feed.items()})


def _nudged(array: Array, random: np.random.Generator) -> Array:
    if array.dtype.kind != "f" or array.size == 0:
        return array
    size = NUDGE * float(np.abs(array).max())
    return (array + size * random.standard_normal(array.shape)).astype(array.dtype)
