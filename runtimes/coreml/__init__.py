"""Core ML: from the ONNX graph to a saved package, and a reference evaluator of what the package says."""

from .runtime import RUNTIME as RUNTIME
