"""From one ONNX graph to a MIL program: one theme of operators per file, one visible table."""
