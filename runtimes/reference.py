"""The reference evaluator of ONNX graphs: ONNX Runtime on the CPU with every graph optimization off.

It answers "what does this graph say", independently of what an engine makes of it.
"""

from __future__ import annotations

import onnx_ir as ir

from ..export.artifact import Feed, Run


def evaluate(model: ir.Model) -> Run:
    """Make a graph runnable exactly as written, on one thread.

    Args:
        model: The graph; weights inside, at most 2 GB.

    Returns:
        A function from inputs by name to outputs by name.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> Feed:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return run
