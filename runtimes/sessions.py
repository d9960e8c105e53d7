"""What the sessions of all engines share: checked inputs, reasons in one sentence, shares of nodes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from ..errors import RunError, UsageError, unknown_name
from ..export.artifact import Array, Feed
from ..models.spec import TensorSpec
from .runtime import Executed

MOVED = "8 bits"
"""Precision of a node on 8-bit data that is no integer kernel: it moves, compares or pools."""

OTHER = "other"
"""Precision of a node that computes no numbers of the network: shapes and indices."""

_LONGEST_REASON = 400
_POSITION = re.compile(r"Exception from \S+:\d+:|\[ONNXRuntimeError\] : \d+ : \w+ :")
"""Where in an engine's own sources an error arose, which helps no user."""


def check_feed(feed: Feed, inputs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Check names, dtypes and shapes of an inference's inputs; nothing is cast or reshaped.

    Engines' own checks differ: OpenVINO takes another size where the graph declares one, and answers.

    Args:
        feed: Arrays by name, each of the shape its spec declares. A free dimension takes any size of
            at least 1, the same size wherever its name occurs.
        inputs: What the network declares.

    Returns:
        The arrays by name, in declared order.

    Raises:
        UsageError: If an input is missing, unknown, or does not fit.
    """
    specs = {spec.name: spec for spec in inputs}
    for name in feed:
        if name not in specs:
            raise unknown_name(kind="input", name=name, known=specs)
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        if name not in feed:
            message = f"expected the input {name!r}, got {', '.join(feed) or 'no input'}; add it"
            raise UsageError(message)
        _check_array(feed[name], spec, sizes)
    return {name: feed[name] for name in specs}


def _check_array(array: Array, spec: TensorSpec, sizes: dict[str, int]) -> None:
    if array.dtype != np.dtype(spec.dtype):
        message = f"expected {spec.name} of {spec.dtype}, got {array.dtype}; convert it first"
        raise UsageError(message)
    wanted = ", ".join(str(dim) for dim in spec.shape)
    fits = len(array.shape) == len(spec.shape) and all(
        (sizes.setdefault(dim, size) if isinstance(dim, str) else dim) == size > 0
        for dim, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        bound = "".join(f" with {name} = {size}" for name, size in sizes.items() if name in spec.shape)
        message = f"expected {spec.name} of shape ({wanted}){bound}, got {array.shape}; reshape it"
        raise UsageError(message)


def shares(nodes: Iterable[tuple[str, str]]) -> tuple[Executed, ...]:
    """Count the nodes that compute, largest share first.

    Args:
        nodes: Provider and precision of every executed node. ``MOVED`` counts as int8 where an integer
            kernel ran as well; elsewhere it is a caller's bytes, or truth values. ``OTHER`` never counts.
    """
    seen = list(nodes)
    moved = "int8" if any(precision == "int8" for _, precision in seen) else OTHER
    named = [(provider, moved if precision == MOVED else precision) for provider, precision in seen]
    counts = Counter(kind for kind in named if kind[1] != OTHER)
    return tuple(
        Executed(provider, precision, count, count / counts.total())
        for (provider, precision), count in counts.most_common()
    )


def closed() -> UsageError:
    """Build the error for a session that is used after its end."""
    return UsageError("expected an open session, got a closed one; open the compiled file again")


def not_run() -> UsageError:
    """Build the error for asking what ran before anything did."""
    return UsageError("expected one inference before asking what ran, got none; call run first")


def reason(error: BaseException) -> str:
    """Give an engine's own words as part of one sentence."""
    text = " ".join(_POSITION.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def specs_to_json(specs: Iterable[TensorSpec]) -> str:
    """Write tensor specs as text for a compiled file."""
    return json.dumps([[spec.name, list(spec.shape), spec.dtype] for spec in specs])


def specs_from_json(text: str) -> tuple[TensorSpec, ...]:
    """Read what ``specs_to_json`` wrote.

    Raises:
        RunError: If the text is something else.
    """
    try:
        return tuple(TensorSpec(str(n), tuple(shape), str(dtype)) for n, shape, dtype in json.loads(text))
    except (ValueError, TypeError) as error:
        message = (
            f"expected tensor specs in the compiled file, got other text ({reason(error)}); compile again"
        )
        raise RunError(message) from error
