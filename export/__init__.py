"""From a module to an ONNX graph known to be right."""
