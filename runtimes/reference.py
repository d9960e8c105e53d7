"""The reference evaluator of ONNX graphs: ONNX Runtime on the CPU with every graph optimization off.

It answers "what does this graph say", independently of what an engine makes of it.
"""

from __future__ import annotations

from importlib import import_module
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx_ir as ir

from ..errors import BuildError
from ..export.artifact import Feed, Run
from .runtime import Executed
from .sessions import reason


def evaluate(model: ir.Model) -> Run:
    """Make a graph runnable exactly as written, on one thread.

    Args:
        model: The graph; weights inside, at most 2 GB.

    Returns:
        A function from inputs by name to outputs by name, in new arrays.

    Raises:
        BuildError: If the graph is not valid ONNX; the function raises it too, for inputs it does not take.
    """
    name = model.graph.name or "the graph"
    try:
        session = _session(ir.to_proto(model).SerializeToString())
    except Exception as error:  # the engine's own exceptions share no base class
        message = f"expected {name} to be valid ONNX, got: {reason(error)}; mend the step that wrote it"
        raise BuildError(message) from error
    names: list[str] = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> Feed:
        try:
            answers = session.run(names, dict(feed))
        except Exception as error:
            message = f"expected {name} to evaluate, got: {reason(error)}; mend the step that wrote it"
            raise BuildError(message) from error
        return {key: np.asarray(answer) for key, answer in zip(names, answers, strict=True)}

    return run


class GraphSession:
    """A graph in the reference evaluator, in place of a compiled file that this machine cannot open."""

    def __init__(self, model: ir.Model) -> None:
        self._run = evaluate(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def run(self, feed: Feed) -> Feed:
        """See ``Session.run``."""
        return self._run(feed)

    def executed(self) -> tuple[Executed, ...]:
        """See ``Session.executed``: the device ran nothing."""
        return ()


def _session(data: bytes) -> Any:
    """Make an ``onnxruntime.InferenceSession``; the package has no types of its own."""
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
