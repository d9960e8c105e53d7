"""Runs in a process of its own: asks TensorRT about a graph, and builds the engine.

A process of its own because TensorRT writes past Python to the terminal, cannot be interrupted, numbers its
layers from where the last build ended (so that only a first build is byte-identical), and may die. It imports
nothing of this package, so that it starts fast: ``python -P child.py ORDER.json``.

Order and outcome are JSON files; ``order.py`` writes the one and reads the other.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_KEPT = ("Layers:", "Total ", "Max Scratch Memory")
"""Beginnings of the messages that say what was built; TensorRT logs thousands of others."""


def main(order: dict[str, Any]) -> None:
    """Carry out one order."""
    trt: Any = import_module(order["module"])
    logger = logger_of(trt)
    graph = Path(order["graph"]).read_bytes()
    outcome: dict[str, Any] = {"version": trt.__version__, "findings": _unsupported(trt, logger, graph)}
    outcome["built"] = False
    if order["build"] and not outcome["findings"]:
        outcome["findings"], engine = _build(trt, logger, graph, order)
        if engine is not None:
            Path(order["engine"]).write_bytes(engine)
            outcome["built"] = True
            outcome["inspected"] = None if order["ahead"] else _inspected(trt, logger, engine)
    outcome["log"] = logger.kept
    Path(order["outcome"]).write_text(json.dumps(outcome), encoding="utf-8")


def logger_of(trt: Any) -> Any:
    """Make a logger that prints nothing and keeps what matters: a list of severities and texts."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.kept: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING or message.startswith(_KEPT):
                self.kept.append((int(severity), message))

    return Logger()


def _network(trt: Any, logger: Any) -> tuple[Any, Any, Any]:
    """Give a builder, an empty network whose types are the graph's, and its parser."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    return builder, network, trt.OnnxParser(network, logger)


def _unsupported(trt: Any, logger: Any, graph: bytes) -> list[dict[str, Any]]:
    """Ask about every node; the question fills the network, so it has one of its own."""
    # The parser does not keep what it was made of alive.
    _builder, _empty, parser = _network(trt, logger)
    if parser.supports_model_v2(graph):
        return []
    found = _errors(parser)
    if found:
        return found
    refused = [
        node
        for index in range(parser.num_subgraphs)
        if not parser.is_subgraph_supported(index)
        for node in parser.get_subgraph_nodes(index)
    ]
    return [
        {"index": node, "name": "", "operator": "", "text": "refused without a reason"} for node in refused
    ]


def _errors(parser: Any) -> list[dict[str, Any]]:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    return [
        {"index": e.node(), "name": e.node_name(), "operator": e.node_operator(), "text": e.desc()}
        for e in errors
    ]


def _build(
    trt: Any, logger: Any, graph: bytes, order: dict[str, Any]
) -> tuple[list[dict[str, Any]], bytes | None]:
    builder, network, parser = _network(trt, logger)
    if not parser.parse(graph):
        return _errors(parser), None
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # On by default, it computes float32 products with 11 bits; precision is what the graph says.
    config.clear_flag(trt.BuilderFlag.TF32)
    if order["ahead"]:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, order["compute"]), 0)
    if order["profile"]:
        profile = builder.create_optimization_profile()
        for name, (least, usual, most) in order["profile"].items():
            profile.set_shape(name, least, usual, most)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return [], None if engine is None else bytes(engine)


def _inspected(trt: Any, logger: Any, engine: bytes) -> str:
    """Ask the engine itself about its layers, which needs the GPU."""
    inspector = trt.Runtime(logger).deserialize_cuda_engine(engine).create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
